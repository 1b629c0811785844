package app

import "sync"

// MaxSubjects bounds the subjects that a Subjects remembers: more than a node
// has devices, and well below a megabyte.
const MaxSubjects = 4096

// Subjects remembers what was logged already, so that repeated malformed input
// of one topic, device or client is logged once. The zero Subjects is ready.
type Subjects struct {
	mu   sync.Mutex
	seen map[string]struct{}
}

// First reports true once for each subject. With MaxSubjects known, no further one is new.
func (s *Subjects) First(subject string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.seen[subject]; ok || len(s.seen) >= MaxSubjects {
		return false
	}
	if s.seen == nil {
		s.seen = map[string]struct{}{}
	}
	s.seen[subject] = struct{}{}
	return true
}
