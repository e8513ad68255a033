package proxytest

import "slices"

// Metric sums the series of a metric whose label values include all of those
// given, of a histogram its observations; 0 when there is none.
func (p *Party) Metric(name string, values ...string) (sum float64) {
	p.world.t.Helper()
	families, err := p.Metrics.Gather()
	if err != nil {
		p.world.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			var has []string
			for _, label := range m.GetLabel() {
				has = append(has, label.GetValue())
			}
			if !slices.ContainsFunc(values, func(v string) bool { return !slices.Contains(has, v) }) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// Refusals counts what the party refused, by reason.
func (p *Party) Refusals() map[string]float64 {
	p.world.t.Helper()
	families, err := p.Metrics.Gather()
	if err != nil {
		p.world.t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "enclave_refused_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			counted[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return counted
}
