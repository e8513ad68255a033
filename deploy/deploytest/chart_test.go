package deploytest

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"helm.sh/helm/v3/pkg/strvals"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the plain manifests anew")

const chartDir = deploy + "/chart"

// legalPerson is escaped for --set.
const legalPerson = `\{"legalPerson":{"name":{"nameIdentifier":[{"legalPersonName":"Alpha Exchange"\,"legalPersonNameIdentifierType":"LEGL"}]}}}`

var shapes = []string{"sidecar", "shared"}

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// valuesOf are the values of a shape's manifests, with changes as in --set, and
// for settings as in --set-string.
func valuesOf(t *testing.T, shape string, sets ...string) map[string]any {
	t.Helper()
	values, err := chartutil.ReadValuesFile(deploy + "/manifests/" + shape + ".values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range sets {
		for _, one := range splitSets(set) {
			parse := strvals.ParseInto
			if strings.HasPrefix(one, "settings.") {
				parse = strvals.ParseIntoString
			}
			if err := parse(one, values); err != nil {
				t.Fatalf("%s: %v", one, err)
			}
		}
	}
	return values
}

// render is helm template: the schema, then the templates.
func render(c *chart.Chart, values map[string]any) (map[string]string, error) {
	v, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "enclave", Namespace: "vasp", IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, v)
}

// objects are the rendered manifests, decoded strictly by their kind.
type objects struct {
	set      *apps.StatefulSet
	config   *core.ConfigMap
	services map[string]*core.Service
	policy   *networking.NetworkPolicy
	monitor  *monitoring.PodMonitor
}

func decode(t *testing.T, rendered map[string]string) objects {
	t.Helper()
	o := objects{services: map[string]*core.Service{}}
	into := func(text string, v any) {
		t.Helper()
		if err := yaml.UnmarshalStrict([]byte(text), v); err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	}
	for _, text := range documents(rendered) {
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		switch head.APIVersion + " " + head.Kind {
		case "apps/v1 StatefulSet":
			o.set = new(apps.StatefulSet)
			into(text, o.set)
		case "v1 ConfigMap":
			o.config = new(core.ConfigMap)
			into(text, o.config)
		case "v1 Service":
			s := new(core.Service)
			into(text, s)
			o.services[s.Name] = s
		case "networking.k8s.io/v1 NetworkPolicy":
			o.policy = new(networking.NetworkPolicy)
			into(text, o.policy)
		case "monitoring.coreos.com/v1 PodMonitor":
			o.monitor = new(monitoring.PodMonitor)
			into(text, o.monitor)
		default:
			t.Errorf("%s %s is a kind that this test does not know", head.APIVersion, head.Kind)
		}
	}
	if o.set == nil || o.config == nil {
		t.Fatal("no StatefulSet or no ConfigMap")
	}
	return o
}

var separator = regexp.MustCompile(`(?m)^---\n`)

// documents are the texts of the objects, in the order of the templates.
func documents(rendered map[string]string) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		for _, text := range separator.Split(rendered[name], -1) {
			if text = strings.TrimSpace(text); text != "" {
				list = append(list, text+"\n")
			}
		}
	}
	return list
}

func TestChartLints(t *testing.T) {
	for _, shape := range shapes {
		for _, m := range lint.All(chartDir, valuesOf(t, shape), "vasp", true).Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %v", shape, m)
			}
		}
	}
	if len(lint.All(t.TempDir(), nil, "vasp", true).Messages) == 0 {
		t.Error("the linter finds nothing wrong with an empty folder")
	}
}

// The chart renders in every combination of what it offers. Each object is one
// of Kubernetes, and each environment one that the enclave starts with.
func TestChartRenders(t *testing.T) {
	c := loadChart(t)
	choices := [][]string{
		{"certificate.secretName=enclave-tls,certificate.acme=null", "certificate.secretName=,certificate.acme.termsAgreed=true",
			"certificate.secretName=,certificate.acme.termsAgreed=true,certificate.acme.challenge=http-01,certificate.acme.directory=https://ca.example/directory"},
		{"public.callerAddress=kept", "public.callerAddress=proxyProtocol,public.trustedProxies={192.0.2.64/28},public.service.externalTrafficPolicy=Cluster",
			"public.callerAddress=forwardedHeader,public.trustedProxies={192.0.2.64/28},public.forwardedHeader=X-Forwarded-For,public.service.type=ClusterIP"},
		{"persistence.storageClass=fast", "persistence.existingClaim=history"},
		{"podMonitor.enabled=true,podMonitor.labels.release=prometheus", "networkPolicy.enabled=false,replicaCount=0"},
		{"peerTrust=tofu", `vasp.legalPerson=` + legalPerson + `,secrets.more.VEGA_REDIS_URL=redis.url,settings.VEGA_LOG_LEVEL=debug,settings.VEGA_SHUTDOWN_GRACE_MS=20000`},
	}
	var sets [][]string
	for n := range product(choices) {
		sets = append(sets, combination(choices, n))
	}
	rendered, judged := 0, map[string]bool{}
	for _, shape := range shapes {
		for n, set := range sets {
			line := strings.Join(set, ",")
			automatic, byHTTP := strings.Contains(line, "termsAgreed=true"), strings.Contains(line, "http-01")
			if automatic && (strings.Contains(line, "callerAddress=forwardedHeader") && !byHTTP || strings.Contains(line, "callerAddress=proxyProtocol") && byHTTP) {
				continue // refused, see below
			}
			t.Run(fmt.Sprint(shape, n), func(t *testing.T) {
				t.Log(line)
				texts, err := render(c, valuesOf(t, shape, set...))
				if err != nil {
					t.Fatal(err)
				}
				rendered++
				o := decode(t, texts)
				checkObjects(t, shape, o)
				env := environment(t, enclaveOf(t, shape, o))
				key := fmt.Sprint(env)
				if judged[key] {
					return
				}
				judged[key] = true
				checkSettings(t, "enclave", env)
				checkConfig(t, "enclave", env, mounted(t, shape, o), hostOf(t, env["VEGA_ENCLAVE_PUBLIC_ENDPOINT"]))
			})
		}
	}
	if rendered < 100 || len(judged) < 20 {
		t.Errorf("%d renderings with %d environments, want all combinations", rendered, len(judged))
	}
	t.Logf("%d renderings, %d environments judged by the enclave", rendered, len(judged))
}

// splitSets splits at commas outside of braces.
func splitSets(s string) []string {
	var list []string
	depth, start := 0, 0
	for i, r := range s {
		switch {
		case r == '{':
			depth++
		case r == '}':
			depth--
		case r == ',' && depth == 0:
			list, start = append(list, s[start:i]), i+1
		}
	}
	return append(list, s[start:])
}

func product(choices [][]string) int {
	n := 1
	for _, c := range choices {
		n *= len(c)
	}
	return n
}

func combination(choices [][]string, n int) []string {
	var list []string
	for _, c := range choices {
		list, n = append(list, c[n%len(c)]), n/len(c)
	}
	return list
}

// enclaveOf is the enclave's container: the sidecar or the only one.
func enclaveOf(t *testing.T, shape string, o objects) core.Container {
	t.Helper()
	pod := o.set.Spec.Template.Spec
	list := pod.Containers
	if shape == "sidecar" {
		list = pod.InitContainers
		if len(pod.Containers) != 1 || pod.Containers[0].Name != "backend" {
			t.Fatalf("the backend's containers are %+v", pod.Containers)
		}
	}
	if len(list) != 1 || list[0].Name != "enclave" || shape == "shared" && len(pod.InitContainers) != 0 {
		t.Fatalf("the enclave is not the one container it should be: %+v", list)
	}
	return list[0]
}

func environment(t *testing.T, c core.Container) map[string]string {
	t.Helper()
	env := map[string]string{}
	for _, v := range c.Env {
		if _, twice := env[v.Name]; twice || v.ValueFrom != nil {
			t.Errorf("%s is set twice, or from elsewhere", v.Name)
		}
		env[v.Name] = v.Value
	}
	return env
}

// mounted are the files of the volumes, by their path in the container: those
// of the ConfigMap with their content.
func mounted(t *testing.T, shape string, o objects) map[string]string {
	t.Helper()
	volumes := map[string]core.Volume{}
	for _, v := range o.set.Spec.Template.Spec.Volumes {
		volumes[v.Name] = v
	}
	files := map[string]string{}
	for _, m := range enclaveOf(t, shape, o).VolumeMounts {
		v := volumes[m.Name]
		switch {
		case v.ConfigMap != nil:
			if v.ConfigMap.Name != o.config.Name {
				t.Errorf("volume %s is of another ConfigMap, %s", v.Name, v.ConfigMap.Name)
			}
			for name, content := range o.config.Data {
				files[m.MountPath+"/"+name] = content
			}
		case v.Secret != nil && len(v.Secret.Items) > 0:
			for _, i := range v.Secret.Items {
				files[m.MountPath+"/"+i.Path] = ""
			}
		case v.Secret != nil:
			files[m.MountPath+"/tls.crt"], files[m.MountPath+"/tls.key"] = "", ""
		}
		if m.SubPath != "" {
			t.Errorf("%s is mounted by subPath, which no change of the volume reaches", m.MountPath)
		}
	}
	return files
}

// checkObjects is what must hold of every rendering.
func checkObjects(t *testing.T, shape string, o objects) {
	t.Helper()
	want := func(ok bool, format string, a ...any) {
		t.Helper()
		if !ok {
			t.Errorf(format, a...)
		}
	}
	spec, pod, c := o.set.Spec, o.set.Spec.Template.Spec, enclaveOf(t, shape, o)

	want(*spec.Replicas <= 1, "%d replicas", *spec.Replicas)
	want(spec.PodManagementPolicy == apps.ParallelPodManagement, "a pod that is not ready blocks its own repair")
	want(*pod.EnableServiceLinks == false, "Services become settings")
	want(*pod.AutomountServiceAccountToken == false, "the pod holds a token of the cluster")
	want(pod.SecurityContext.SeccompProfile.Type == core.SeccompProfileTypeRuntimeDefault, "no seccomp")
	want(*pod.SecurityContext.FSGroup == 65532 && *pod.SecurityContext.FSGroupChangePolicy == core.FSGroupChangeOnRootMismatch, "fsGroup %+v", pod.SecurityContext)
	s := c.SecurityContext
	want(*s.RunAsNonRoot && *s.RunAsUser == 65532 && *s.ReadOnlyRootFilesystem && !*s.AllowPrivilegeEscalation && s.Privileged == nil, "security context %+v", s)
	want(len(s.Capabilities.Drop) == 1 && s.Capabilities.Drop[0] == "ALL" && len(s.Capabilities.Add) == 0, "capabilities %+v", s.Capabilities)
	want(s.SeccompProfile.Type == core.SeccompProfileTypeRuntimeDefault, "no seccomp")
	want(!pod.HostNetwork && !pod.HostPID && !pod.HostIPC, "it shares the node's")
	if shape == "sidecar" {
		want(c.RestartPolicy != nil && *c.RestartPolicy == core.ContainerRestartPolicyAlways, "it is no native sidecar")
	} else {
		want(c.RestartPolicy == nil, "a container has a restart policy")
	}

	for _, p := range []struct {
		probe *core.Probe
		flags []string
	}{{c.StartupProbe, []string{"--startup"}}, {c.ReadinessProbe, nil}, {c.LivenessProbe, []string{"--live"}}} {
		command := append([]string{"/usr/local/bin/enclave", "healthcheck"}, p.flags...)
		want(p.probe != nil && p.probe.Exec != nil && slices.Equal(p.probe.Exec.Command, command), "probe %+v, want %q", p.probe, command)
		want(p.probe.TimeoutSeconds > 3, "a probe ends before the program's own timeout of 3 s")
	}
	want(c.StartupProbe.FailureThreshold*c.StartupProbe.PeriodSeconds >= 900, "a long start is killed")

	env := environment(t, c)
	drain := number(t, env["VEGA_SHUTDOWN_DELAY_MS"]) + number(t, def(env["VEGA_SHUTDOWN_GRACE_MS"], "10000"))
	if shape == "sidecar" {
		drain += 30_000
	}
	want(*pod.TerminationGracePeriodSeconds*1000 > drain, "killed after %d s, stopping takes %d ms", *pod.TerminationGracePeriodSeconds, drain)
	readiness := int64(c.ReadinessProbe.PeriodSeconds*c.ReadinessProbe.FailureThreshold) * 1000
	want(number(t, env["VEGA_SHUTDOWN_DELAY_MS"]) > readiness, "it stops before the probe sees that it is not ready")
	want((env["VEGA_UNSAFE_SERVER_HOST"] != "") == (shape == "shared"), "the backend's listener: %q", env["VEGA_UNSAFE_SERVER_HOST"])
	want(env["VEGA_PEER_TRUST"] != "", "nobody chose whom to trust")

	claims := map[string]bool{}
	for _, v := range spec.VolumeClaimTemplates {
		claims[v.Name] = true
	}
	for _, v := range pod.Volumes {
		want(v.EmptyDir == nil && v.HostPath == nil, "volume %s is on the node", v.Name)
		claims[v.Name] = claims[v.Name] || v.PersistentVolumeClaim != nil
		want(v.Secret == nil || *v.Secret.DefaultMode == 0o440, "secret %s has the mode %v", v.Name, v.Secret)
	}
	history := ""
	for _, m := range c.VolumeMounts {
		if strings.HasPrefix(env["VEGA_DATABASE_FILE"], m.MountPath+"/") {
			history = m.Name
		} else {
			want(m.ReadOnly, "%s can be written to", m.MountPath)
		}
	}
	want(claims[history], "the history is on volume %q, which is no claim", history)

	ports, numbers := map[string]int32{}, map[int32]string{}
	for _, p := range c.Ports {
		ports[p.Name], numbers[p.ContainerPort] = p.ContainerPort, p.Name
	}
	for _, other := range pod.Containers {
		for _, p := range other.Ports {
			for name, ours := range ports {
				want(other.Name == "enclave" || p.ContainerPort != ours, "port %d is %s's and the enclave's %s", ours, other.Name, name)
			}
		}
	}
	want(ports["challenge"] == 0 || env["VEGA_ACME_HTTP_LISTEN"] == fmt.Sprint(":", ports["challenge"]), "the challenge's port is %d, the enclave listens at %s", ports["challenge"], env["VEGA_ACME_HTTP_LISTEN"])
	want(ports["metrics"] == 9464 && env["VEGA_METRICS_LISTEN"] == ":9464" && ports["public"] == 8443 && env["VEGA_PUBLIC_LISTEN"] == ":8443", "ports %v", ports)
	want((ports["backend"] == 21117) == (shape == "shared"), "ports %v", ports)
	labels := spec.Template.Labels
	selects := func(selector map[string]string) bool {
		for name, value := range selector {
			if labels[name] != value {
				return false
			}
		}
		return len(selector) > 0
	}
	want(selects(spec.Selector.MatchLabels), "the set does not select its pods")
	for name, service := range o.services {
		want(selects(service.Spec.Selector), "Service %s selects nothing", name)
		for _, p := range service.Spec.Ports {
			// A name of a native sidecar's port is not found by every Kubernetes that has native sidecars.
			want(numbers[p.TargetPort.IntVal] == p.Name, "Service %s leads to port %s, which is no number of the enclave's port %s", name, p.TargetPort.String(), p.Name)
		}
	}
	public := o.services["enclave-public"].Spec
	want(public.Type == core.ServiceTypeClusterIP || public.ExternalTrafficPolicy == core.ServiceExternalTrafficPolicyLocal || env["VEGA_TRUSTED_PROXIES"] != "", "the allowlist would judge nodes")
	want(public.PublishNotReadyAddresses, "it is not ready without a certificate, and the authority that certifies could not reach it")
	want(o.services[spec.ServiceName] != nil && o.services[spec.ServiceName].Spec.ClusterIP == core.ClusterIPNone, "no governing Service")
	metrics := o.services["enclave-metrics"].Spec
	want(len(metrics.Ports) == 1 && metrics.Ports[0].TargetPort.IntVal == 9464, "the metrics' Service has %+v", metrics.Ports)
	if shape == "shared" {
		backend := o.services["enclave"].Spec
		want(len(backend.Ports) == 1 && backend.Ports[0].Port == 21117 && backend.Type == "", "the backend's Service is %+v", backend)
	} else {
		want(o.services["enclave"] == nil, "the loopback listener has a Service")
	}

	if p := o.policy; p != nil {
		want(selects(p.Spec.PodSelector.MatchLabels), "the policy selects nothing")
		want(len(p.Spec.PolicyTypes) == 2, "the policy is for %v", p.Spec.PolicyTypes)
		for _, in := range p.Spec.Ingress {
			for _, port := range in.Ports {
				name := numbers[port.Port.IntVal]
				want(port.Port.StrVal == "" && (name != "" || shape == "sidecar" && port.Port.IntVal == 8080), "the policy opens port %s, which is not there", port.Port)
				open := name == "public" || name == "challenge" || shape == "sidecar" && port.Port.IntVal == 8080
				want(open || len(in.From) > 0, "the policy opens port %s to everybody", port.Port)
			}
			want(len(in.Ports) > 0, "the policy opens every port to %+v", in.From)
		}
		want(len(p.Spec.Egress) == 2, "ways out: %+v", p.Spec.Egress)
	}
	if m := o.monitor; m != nil {
		want(selects(m.Spec.Selector.MatchLabels) && *m.Spec.PodMetricsEndpoints[0].Port == "metrics", "PodMonitor %+v", m.Spec)
		relabel := m.Spec.PodMetricsEndpoints[0].RelabelConfigs
		want(len(relabel) == 1 && relabel[0].TargetLabel == "job" && *relabel[0].Replacement == "enclave", "the rules would not find the job: %+v", relabel)
		want(m.Labels["release"] == "prometheus", "labels %v", m.Labels)
	}
	want((o.policy == nil) == (*spec.Replicas == 0) && (o.monitor == nil) == (*spec.Replicas == 0), "policy and monitor are not as chosen")
}

func number(t *testing.T, text string) int64 {
	t.Helper()
	var n int64
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatalf("%q is no number", text)
	}
	return n
}

func def(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// What cannot work is refused with the value and the remedy, and whatever a
// template can refuse is here.
func TestChartRefuses(t *testing.T) {
	c := loadChart(t)
	all := ""
	for _, r := range []struct{ shape, set, sentence string }{
		{"shared", "replicaCount=2", "replicaCount is 2: the history is one file that one process may open"},
		{"sidecar", "replicaCount=3", "let several pods of your backend share the one enclave (shape: shared)"},
		{"shared", "persistence.enabled=false", "would be in an emptyDir and go with the pod; set it to true"},
		{"shared", "persistence.accessModes={ReadWriteMany}", "set [ReadWriteOncePod]"},
		{"shared", "extraVolumes[0].name=history,extraVolumes[0].emptyDir.medium=", "extraVolumes: history is a volume of this chart"},
		{"shared", "extraVolumeMounts[0].name=x,extraVolumeMounts[0].mountPath=/var/lib/enclave", "extraVolumeMounts: /var/lib/enclave lies where the history is"},
		{"shared", "extraVolumeMounts[0].name=x,extraVolumeMounts[0].mountPath=/var/lib/enclave/a/", "mount it elsewhere"},
		{"shared", "peerTrust=", "peerTrust is not set: choose tofu, which believes the central server at first contact"},
		{"shared", "shape=", "shape is not set: choose sidecar, for a backend of one replica, or shared"},
		{"shared", "public.service.externalTrafficPolicy=Cluster", "public.service.externalTrafficPolicy is Cluster: the Service would put a node's address in the place of the caller's"},
		{"sidecar", "public.service.externalTrafficPolicy=Cluster,public.service.type=NodePort", "set Local, or let the balancer send the PROXY protocol"},
		{"shared", "public.callerAddress=proxyProtocol", "public.trustedProxies is empty: with public.callerAddress proxyProtocol"},
		{"sidecar", "public.callerAddress=forwardedHeader,public.forwardedHeader=X-Real-IP", "public.trustedProxies is empty: with public.callerAddress forwardedHeader"},
		{"sidecar", "public.callerAddress=forwardedHeader,public.trustedProxies={192.0.2.1}", "public.forwardedHeader is not set: name the header"},
		{"shared", "public.trustedProxies={192.0.2.1}", "do nothing with public.callerAddress kept"},
		{"shared", "central.allowlist=null", "central.allowlist is empty: nobody could connect"},
		{"shared", "certificate.acme.termsAgreed=false", "certificate: there is none; name a Secret"},
		{"shared", "certificate.secretName=x", "are both set: keep one of them"},
		{"shared", "public.service.port=8443", "public.service.port is 8443: with tls-alpn-01 the certificate authority calls port 443"},
		{"shared", "public.callerAddress=forwardedHeader,public.forwardedHeader=Forwarded,public.trustedProxies={192.0.2.1}", "a balancer that ends TLS answers the authority itself"},
		{"sidecar", "public.service.type=NodePort,certificate.secretName=,certificate.acme.termsAgreed=true,certificate.acme.challenge=tls-alpn-01", "public.service.type is NodePort: with tls-alpn-01"},
		{"shared", "certificate.acme.challenge=http-01,public.callerAddress=proxyProtocol,public.trustedProxies={192.0.2.1}", "certificate.acme.challenge is http-01: a balancer that sends the PROXY protocol"},
		{"shared", "settings.VEGA_LOG_LEVLE=debug", "settings.VEGA_LOG_LEVLE is no setting of the enclave"},
		{"sidecar", "settings.VEGA_UNSAFE_SERVER_HOST=0.0.0.0,secrets.serverToken=", "settings.VEGA_UNSAFE_SERVER_HOST is set without secrets.serverToken"},
		{"sidecar", "sidecar.containers[0].ports[0].containerPort=7000,sidecar.containers[0].ports[0].name=metrics", "backend has a port that is called metrics"},
		{"shared", "vasp.id=", "vasp.id is not set: the enclave does not start without it"},
		{"shared", "image.repository=", "image.repository is not set"},
		{"shared", "secrets.name=", "secrets.name is not set"},
		{"shared", "vasp.id=1595208993", "vasp.id is a number: write it in quotes"},
		{"shared", "image.tag=latest", "image.tag is latest: a restart could bring another program"},
		{"shared", "backend.userUrl=http://backend.vasp.svc/verify", "backend.userUrl is http to another pod: personal data"},
		{"sidecar", "backend.callbackUrl=http://127.0.0.1.example/", "backend.callbackUrl is http to another pod"},
		{"shared", "backend.accountUrl=http://localhost:8080/a", "backend.accountUrl leads to the enclave's own pod"},
		{"shared", "settings.VEGA_PEER_TRUST=tofu", "settings.VEGA_PEER_TRUST is what the value peerTrust makes"},
		{"shared", "settings.VEGA_DATABASE_FILE=/tmp/x", "settings.VEGA_DATABASE_FILE is what the value persistence makes"},
		{"shared", "settings.VEGA_SERVER_TOKEN=hush", "settings.VEGA_SERVER_TOKEN is a secret: whoever may look at the pod would read it; put it into the Secret and name its key in secrets.serverToken"},
		{"shared", "settings.VEGA_REDIS_URL_FILE=/x", "name its key in secrets.more"},
		{"shared", "secrets.more.VEGA_LOG_LEVEL=x", "secrets.more.VEGA_LOG_LEVEL is no secret setting"},
		{"shared", "secrets.more.VEGA_SERVER_TOKEN=x", "a value of its own (secrets.serverToken)"},
		{"sidecar", "sidecar.containers=null", "sidecar.containers is empty: a sidecar stands beside something"},
		{"sidecar", "sidecar.containers[0].name=enclave", "enclave is the name of the enclave's own container"},
		{"sidecar", "sidecar.containers[0].ports[0].containerPort=8443", "sidecar.containers: port 8443 is one of the enclave's"},
		{"shared", "sidecar.containers[0].name=backend", "sidecar.containers do not run with shape shared"},
		{"shared", "secrets.serverToken=", "secrets.serverToken is not set: whoever reaches the Service"},
		{"shared", "networkPolicy.backendFrom=null", "networkPolicy.backendFrom is empty: no pod could call the enclave"},
		{"shared", "terminationGracePeriodSeconds=16", "terminationGracePeriodSeconds is 16: stopping takes up to 16 s"},
		{"sidecar", "terminationGracePeriodSeconds=30", "stopping takes up to 46 s"},
		{"shared", "settings.VEGA_SHUTDOWN_DELAY_MS=2000", "the readiness probe asks every 5 s"},
		// By the schema.
		{"shared", "shape=both", "shape"},
		{"shared", "replicas=2", "replicas"},
		{"shared", "persistence.emptyDir.medium=Memory", "emptyDir"},
		{"shared", "peerTrust=everybody", "peerTrust"},
		{"shared", "central.allowlist={central.example}", "allowlist"},
		{"shared", "central.endpoint=http://central.example", "endpoint"},
		{"shared", "settings.LOG_LEVEL=debug", "LOG_LEVEL"},
		{"shared", "image.digest=latest", "digest"},
	} {
		_, err := render(c, valuesOf(t, r.shape, r.set))
		if err == nil || !strings.Contains(err.Error(), r.sentence) {
			t.Errorf("%s: %v\nwant: %s", r.set, err, r.sentence)
			continue
		}
		all += err.Error()
	}
	rules, err := os.ReadFile(chartDir + "/templates/_refuse.tpl")
	if err != nil {
		t.Fatal(err)
	}
	sentences := regexp.MustCompile(`append \$bad (?:\(printf )?"((?:[^"\\]|\\.)*)"`).FindAllStringSubmatch(string(rules), -1)
	if n := strings.Count(string(rules), "append $bad"); n != len(sentences) || n < 30 {
		t.Errorf("%d refusals in the template, %d with a sentence", n, len(sentences))
	}
	for _, s := range sentences {
		parts := regexp.MustCompile(`%[ds]`).Split(strings.ReplaceAll(s[1], `\"`, `"`), -1)
		longest := slices.MaxFunc(parts, func(a, b string) int { return len(a) - len(b) })
		if !strings.Contains(all, longest) {
			t.Errorf("no case has the refusal: %s", s[1])
		}
	}
}

// Everything that is wrong is said at once.
func TestChartRefusesAllAtOnce(t *testing.T) {
	_, err := render(loadChart(t), map[string]any{})
	if err == nil {
		t.Fatal("a chart without values renders")
	}
	for _, want := range []string{"shape is not set", "peerTrust is not set", "vasp.id is not set", "central.allowlist is empty", "certificate: there is none"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks: %s", err, want)
		}
	}
}

// The chart's lists of settings are the enclave's.
func TestChartKnowsTheSettings(t *testing.T) {
	helpers, err := os.ReadFile(chartDir + "/templates/_helpers.tpl")
	if err != nil {
		t.Fatal(err)
	}
	list := func(name string) []string {
		_, rest, _ := strings.Cut(string(helpers), `define "vasp-enclave.`+name+`" -}}`)
		text, _, _ := strings.Cut(rest, "{{- end }}")
		m := map[string]string{}
		if err := yaml.UnmarshalStrict([]byte(text), &m); err != nil || len(m) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		return slices.Sorted(maps.Keys(m))
	}
	names, secrets := settingsOf(t, "enclave")
	slices.Sort(secrets)
	if got := list("secret"); !slices.Equal(got, secrets) {
		t.Errorf("the chart's secrets are\n%q, the enclave's\n%q", got, secrets)
	}
	var quoted []string
	for _, name := range names {
		quoted = append(quoted, fmt.Sprintf("%q", name))
	}
	known := "{{- /* Every setting of the enclave: written by go test -C deploy/deploytest -update. */ -}}\n" +
		`{{- define "vasp-enclave.known" -}}` + "\n[" + strings.Join(quoted, ",\n") + "]\n{{- end }}\n"
	file := chartDir + "/templates/_known.tpl"
	if *update {
		if err := os.WriteFile(file, []byte(known), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if is, err := os.ReadFile(file); err != nil || string(is) != known {
		t.Errorf("%s is not the enclave's list: run go test -C deploy/deploytest -update (%v)", file, err)
	}
	for _, name := range list("owned") {
		if !slices.Contains(names, name) {
			t.Errorf("the chart makes %s, which the enclave does not know", name)
		}
	}
}

// The schema has what values.yaml has, no more and no less.
func TestSchemaFitsValues(t *testing.T) {
	c := loadChart(t)
	var schema map[string]any
	if err := json.Unmarshal(c.Schema, &schema); err != nil {
		t.Fatal(err)
	}
	var compare func(path string, values, schema map[string]any)
	compare = func(path string, values, schema map[string]any) {
		properties, ok := schema["properties"].(map[string]any)
		if !ok {
			return // an object of Kubernetes, or a map by name
		}
		if schema["additionalProperties"] != false {
			t.Errorf("%s: misspelt values are not refused", path)
		}
		for name := range properties {
			if _, ok := values[name]; !ok && name != "global" {
				t.Errorf("%s%s is in the schema and not in values.yaml", path, name)
			}
		}
		for name, value := range values {
			p, ok := properties[name].(map[string]any)
			if !ok {
				t.Errorf("%s%s is in values.yaml and not in the schema", path, name)
				continue
			}
			if below, ok := value.(map[string]any); ok {
				compare(path+name+".", below, p)
			}
		}
	}
	compare("", c.Values, schema)
}

// Native sidecars are in Kubernetes 1.29 and later.
func TestChartWantsNativeSidecars(t *testing.T) {
	c := loadChart(t)
	for version, want := range map[string]bool{"v1.28.9": false, "v1.29.0": true, "v1.33.2-gke.1": true} {
		if got := chartutil.IsCompatibleRange(c.Metadata.KubeVersion, version); got != want {
			t.Errorf("%s: %t", version, got)
		}
	}
	// Without a cluster Helm takes a version for granted. What the page says
	// about it is no longer so when this fails.
	if version := chartutil.DefaultCapabilities.KubeVersion.Version; chartutil.IsCompatibleRange(c.Metadata.KubeVersion, version) {
		t.Errorf("helm template needs no --kube-version: it takes %s", version)
	}
	page, err := os.ReadFile("../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`--kube-version ([0-9.]+)`).FindSubmatch(page)
	if version == nil || !chartutil.IsCompatibleRange(c.Metadata.KubeVersion, string(version[1])) {
		t.Errorf("docs/deploy.md gives helm template no version that the chart takes: %q", version)
	}
}

// The plain manifests are the chart's; -update writes them.
func TestManifestsAreTheCharts(t *testing.T) {
	c := loadChart(t)
	for _, shape := range shapes {
		rendered, err := render(c, valuesOf(t, shape))
		if err != nil {
			t.Fatal(err)
		}
		want := "# Made from deploy/chart with " + shape + ".values.yaml: change those, and run go test -C deploy/deploytest -update\n" +
			"---\n" + strings.Join(documents(rendered), "---\n")
		path := filepath.Join(deploy, "manifests", shape+".yaml")
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is not what the chart makes: run go test -C deploy/deploytest -update", path)
		}
	}
}

// The pod that restores is locked down as the enclave's, and what it makes is
// where the enclave looks.
func TestRestoreFitsTheChart(t *testing.T) {
	content, err := os.ReadFile(deploy + "/manifests/restore.yaml")
	if err != nil {
		t.Fatal(err)
	}
	list := documents(map[string]string{"restore.yaml": string(content)})
	if len(list) != 2 {
		t.Fatalf("%d objects", len(list))
	}
	var claim core.PersistentVolumeClaim
	var pod core.Pod
	for text, into := range map[string]any{list[0]: &claim, list[1]: &pod} {
		if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	rendered, err := render(loadChart(t), valuesOf(t, "shared", "persistence.existingClaim="+claim.Name))
	if err != nil {
		t.Fatal(err)
	}
	o := decode(t, rendered)
	set, ours := o.set.Spec.Template.Spec, enclaveOf(t, "shared", o)
	c := pod.Spec.Containers[0]
	if !reflect.DeepEqual(c.SecurityContext, ours.SecurityContext) || !reflect.DeepEqual(pod.Spec.SecurityContext, set.SecurityContext) {
		t.Errorf("security contexts %+v and %+v are not the enclave's", c.SecurityContext, pod.Spec.SecurityContext)
	}
	if *pod.Spec.EnableServiceLinks || *pod.Spec.AutomountServiceAccountToken || pod.Spec.RestartPolicy != core.RestartPolicyNever {
		t.Errorf("pod %+v", pod.Spec)
	}
	if c.Image != ours.Image || !slices.Equal(c.Args, []string{"restore", "-"}) || !c.Stdin || !c.StdinOnce {
		t.Errorf("container %+v", c)
	}
	env, theirs := environment(t, c), environment(t, ours)
	checkSettings(t, "enclave", env)
	for name, value := range env {
		if theirs[name] != value {
			t.Errorf("%s is %s here and %s in the chart", name, value, theirs[name])
		}
	}
	for _, m := range c.VolumeMounts {
		if !slices.ContainsFunc(ours.VolumeMounts, func(other core.VolumeMount) bool { return reflect.DeepEqual(m, other) }) {
			t.Errorf("the enclave mounts nothing as %+v", m)
		}
	}
	volume := func(list []core.Volume, name string) core.Volume {
		i := slices.IndexFunc(list, func(v core.Volume) bool { return v.Name == name })
		if i < 0 {
			t.Fatalf("no volume %s", name)
		}
		return list[i]
	}
	if here, there := volume(pod.Spec.Volumes, "history"), volume(set.Volumes, "history"); !reflect.DeepEqual(here, there) {
		t.Errorf("the history goes to %+v, the enclave's is %+v", here, there)
	}
	if here, there := volume(pod.Spec.Volumes, "vega-secrets").Secret, volume(set.Volumes, "vega-secrets").Secret; here.SecretName != there.SecretName {
		t.Errorf("the key comes from %s, the enclave's from %s", here.SecretName, there.SecretName)
	}
}
