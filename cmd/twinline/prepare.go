package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/twinline/twinline/internal/app"
)

// newPrepareCommand makes folders that a part without root rights may write:
// an init container runs it, since hostPath volumes belong to root.
func newPrepareCommand() *cobra.Command {
	owner := 65532
	cmd := &cobra.Command{
		Use:     "prepare FOLDER…",
		Short:   "make folders and give them to the user a part runs as",
		Example: "  twinline prepare --owner=65532 /var/lib/twinline/uplink",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return app.ConfigError(fmt.Errorf("name at least one folder"))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			for _, dir := range args {
				if err := prepare(dir, owner); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&owner, "owner", owner, "user and group id of the owner")
	return cmd
}

func prepare(dir string, owner int) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("prepare %s: %w", dir, err)
	}
	if err := os.Chown(dir, owner, owner); err != nil {
		return fmt.Errorf("prepare %s: %w", dir, err)
	}
	return nil
}
