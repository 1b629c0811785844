// Package mappertest tests mappers: Suite is the conformance suite that every
// mapper.Driver passes, and the fakes stand in for all a mapper.Mapper is made
// of. Fakes are safe for concurrent use and work inside testing/synctest.
package mappertest
