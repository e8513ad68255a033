// Package deploytest holds the tests of what stands in deploy: the chart, the
// manifests, compose.yaml and the systemd units. They are a module of their
// own, because Helm's library brings half of Kubernetes with it.
//
// What compose.yaml describes is also run by podman, and the units by systemd,
// as root in namespaces of the test's own.
package deploytest
