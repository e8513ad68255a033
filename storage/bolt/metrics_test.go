package bolt_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
)

// gauge is the value of the only series of a metric.
func gauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name && len(family.GetMetric()) == 1 {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

// The age of the database key is known from the file's beginning, changes with
// the key, and outlives a restart.
func TestTheAgeOfTheDatabaseKey(t *testing.T) {
	const name = "enclave_database_key_since_timestamp_seconds"
	o := options(t, t.TempDir()+"/history.db")
	o.Now = func() time.Time { return noon }
	registry := prometheus.NewRegistry()
	o.Metrics = registry
	db := mustOpen(t, o)
	since := func(when string, want time.Time) {
		t.Helper()
		status, err := db.KeyStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := gauge(t, registry, name); got != float64(want.Unix()) || !status.KEKSince.Equal(want) {
			t.Errorf("%s: under its key since %v (metric) and %v (status), want %v", when, got, status.KEKSince, want)
		}
	}
	since("made", noon)
	next, err := atrest.NewKEK([]byte("another database key, 32 bytes.."))
	if err != nil {
		t.Fatal(err)
	}
	rotated := entry("kek")
	rotated.Time = noon.Add(time.Hour)
	if err := db.RotateKEK(t.Context(), next, rotated); err != nil {
		t.Fatal(err)
	}
	since("rotated", noon.Add(time.Hour))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	o.KEK = next
	db = mustOpen(t, o)
	since("opened again", noon.Add(time.Hour))
}

func TestTheRoomOfTheDiskIsShown(t *testing.T) {
	o := options(t, t.TempDir()+"/history.db")
	registry := prometheus.NewRegistry()
	o.Metrics = registry
	mustOpen(t, o)
	if free := gauge(t, registry, "enclave_store_disk_free_bytes"); free < 1<<20 {
		t.Errorf("%v bytes are free, and yet the test wrote a file", free)
	}
}
