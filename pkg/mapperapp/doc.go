// Package mapperapp makes a binary of a mapper.Driver: flags, configuration,
// the broker, where devices come from, twins, state on disk, metrics, an API.
package mapperapp
