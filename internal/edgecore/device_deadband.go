package edgecore

import (
	"math"
	"math/big"

	"github.com/twinline/twinline/pkg/twin"
)

// changed reports whether the latest value is news: nothing is known, or what
// is known differs by more than the deadband. A desired value is news once the device shows it.
func (p *property) changed() bool {
	switch {
	case !p.isKnown:
		return true
	case p.latest.text == p.known.text:
		return false
	case p.band <= 0 || p.latest.value.Equal(p.wish):
		return true
	}
	return beyond(p.latest.value, p.known.value, p.band)
}

// wishOf returns the desired value of a property; zero if there is none.
func wishOf(p *twin.Property) twin.Value {
	if p.Desired == nil || p.Deadband <= 0 {
		return twin.Value{}
	}
	v, err := p.Parse(*p.Desired)
	if err != nil {
		return twin.Value{}
	}
	return v
}

// beyond reports whether two numbers differ by more than band. Near the bound
// it compares the decimals as they are told: 20.1 is not more than 0.1 from 20, though its float64
// is. What is no number differs.
func beyond(v, w twin.Value, band float64) bool {
	a, okA := v.AsFloat()
	b, okB := w.AsFloat()
	if !okA || !okB {
		return true
	}
	apart := math.Abs(a - b)
	const rounding = 1e-12 // many times what float64 loses
	if math.Abs(apart-band) > rounding*(math.Abs(a)+math.Abs(b)+band) {
		return apart > band
	}
	d := new(big.Rat).Sub(exact(v), exact(w))
	return d.Abs(d).Cmp(exact(twin.FloatValue(band))) > 0
}

// exact returns a number as its text says; the text of every number is one.
func exact(v twin.Value) *big.Rat {
	r, _ := new(big.Rat).SetString(v.Text())
	return r
}
