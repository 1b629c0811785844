package main

import "context"

func benchStorage(context.Context, options) error { return nil }
