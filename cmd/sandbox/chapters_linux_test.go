package sandbox_test

import (
	"path/filepath"
	"strings"
	"testing"
)

const (
	centralAt, alphaAt, bravoAt = "10.99.2.10", "10.99.2.20", "10.99.113.7"
	alphaID                     = "15952089931162058999"
	bravoID                     = "16384656509591635927"
)

// What is not a page's to tell: names in the DNS, an authority that everybody
// knows, and certificates by it.
const (
	authority = `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=authority" -keyout ca.key -out ca.crt -addext keyUsage=critical,keyCertSign
for name in central.example enclave.alpha.example enclave.bravo.example; do
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout $name.key -out $name.csr
  printf 'subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth\n' $name >$name.ext
  openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -days 2 -extfile $name.ext -out $name.crt
done
`
	everywhere = `cat ca.crt >>/etc/ssl/certs/ca-certificates.crt
printf '%s\n' '` + centralAt + ` central.example' '` + alphaAt + ` enclave.alpha.example' '` + bravoAt + ` enclave.bravo.example' >>/etc/hosts
`
)

// The pages' addresses are for examples only, and no central calls them. Those
// of here are of a private network.
var real = strings.NewReplacer("192.0.2.", "10.99.2.", "203.0.113.", "10.99.113.",
	"CENTRAL_SOURCE_ADDRESS=192.0.2.10", "CENTRAL_SOURCE_ADDRESS=10.99.2.10\nCENTRAL_UNSAFE_PRIVATE_MEMBERS=true")

// chapter is what a page of the operator's handbook tells to type, from one
// heading to another, "" being its beginning and end.
func chapter(t *testing.T, page, from, to string) []string {
	t.Helper()
	text := string(read(t, "../../docs", page))
	if from != "" {
		_, after, found := strings.Cut(text, "\n"+from+"\n")
		if !found {
			t.Fatalf("%s has no %q", page, from)
		}
		text = after
	}
	if to != "" {
		before, _, found := strings.Cut(text, "\n"+to+"\n")
		if !found {
			t.Fatalf("%s has no %q", page, to)
		}
		text = before
	}
	all := blocks(text)
	if len(all) == 0 {
		t.Fatalf("%s tells to type nothing after %q", page, from)
	}
	return all
}

func blocks(text string) (all []string) {
	for _, block := range shellBlock.FindAllStringSubmatch(text, -1) {
		all = append(all, real.Replace(block[1]))
	}
	return all
}

// follows types a chapter, and gives what is shown.
func (m *machine) follows(t *testing.T, page, from, to string) string {
	t.Helper()
	var shown strings.Builder
	for _, block := range chapter(t, page, from, to) {
		shown.WriteString(m.types(t, block))
	}
	return shown.String()
}

// Whoever runs an enclave, and whoever runs central, types what the handbook
// says, each on a machine of their own, as root, with users, folders and
// addresses as they are written there. What is between is what the pages leave
// to telephones, to counterparties and to chance.
func TestTheHandbookIsFollowed(t *testing.T) { asRoot(t, theHandbookIsFollowed) }

func theHandbookIsFollowed(t *testing.T) {
	central, alpha, bravo := alliance(t)
	begin := func(page, from, to string) string { t.Helper(); return central.follows(t, page, from, to) }
	begin("operations/central.md", "", "## Settings")
	for _, m := range []*machine{alpha, bravo} {
		central.gives(t, m, "/etc/central/"+m.name+".key", "alliance.key")
		m.types(t, itsBackend)
	}
	type_ := func(page, from, to string) string { t.Helper(); return alpha.follows(t, page, from, to) }
	says(t, type_("operations/install.md", "", ""), "ok: the settings would start an enclave", "says that our enclave is up", "VEGA_NETWORK_ID=example-alliance-production")
	for _, block := range chapter(t, "operations/install.md", "", "") { // Bravo's operator has the same page, and other values
		bravo.types(t, strings.NewReplacer(alphaID, bravoID, "alpha", "bravo").Replace(block))
	}
	alpha.types(t, transferred("OLD")+transferred("ID"))
	bravo.types(t, "VASP="+alphaID)

	// Two operators on the telephone.
	hears(t, alpha, bravo)
	says(t, type_("operations/counterparties.md", "", ""), "verified", "blocked")
	alpha.types(t, attempt)
	bravo.types(t, accept)
	alpha.types(t, transferred("AGAIN")+"DAY=$(date -u +%F)")

	says(t, type_("operations/keys.md", "", ""), "none under way")
	says(t, type_("operations/history.md", "", ""), "Min-jun", "whole", "holds")
	type_("operations/backup.md", "", "### Restore")
	type_("operations/running.md", "", "")
	alpha.types(t, stopped)
	type_("operations/backup.md", "### Restore", "")
	alpha.types(t, "enclave run 2>>/var/log/enclave.log &\nuntil enclave healthcheck; do sleep 1; done")
	says(t, type_("operations/watching.md", "", ""), "UP")
	type_("operations/troubles.md", "", "")

	// Runbooks, as if their alerts fired.
	alpha.types(t, runbooksHead(t))
	central.types(t, strings.NewReplacer("enclave", "central", "9464", "9465").Replace(runbooksHead(t)))
	alpha.types(t, "cp /etc/enclave/env env; sed -i '/_DATABASE_FILE=\\|_BASE64_FILE=\\|SECRET_KEY_FILE=/d' /etc/enclave/env")
	alpha.types(t, "cp -p /etc/enclave/database-2.key /etc/enclave/database.key")
	alpha.types(t, chapter(t, "runbooks/README.md", "", "")[1])
	says(t, alpha.types(t, "enclave check-config; enclave doctor; enclave peers list"), "ok: the settings", "says that our enclave is up", "tofu")
	alpha.types(t, "cp env /etc/enclave/env\n"+runbooksHead(t))
	pages, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil || len(pages) < 40 {
		t.Fatalf("%d runbooks: %v", len(pages), err)
	}
	for _, page := range pages {
		page = filepath.Base(page)
		switch {
		case strings.HasPrefix(page, "Central"):
			begin("runbooks/"+page, "", "")
		case strings.HasPrefix(page, "Enclave"):
			type_("runbooks/"+page, "", "")
		}
	}

	// Central's operator gives a second pair of keys; the log of a certificate.
	begin("operations/central.md", "## Members file", "## State file")
	central.types(t, "cp tls.crt central.pem")
	begin("settings/public-listener.md", "", "")
	central.gives(t, alpha, "/etc/central/alpha-2.key", "alliance-2.key")

	// The worst.
	type_("operations/disasters.md", "## The alliance's secret is known to others", "")
	type_("operations/disasters.md", "## The certificate expired", "## The alliance's secret is known to others")
	alpha.types(t, "rm /etc/enclave/database*.key")
	type_("operations/disasters.md", "## The database key is lost", "## The identity is lost")
	alpha.types(t, stopped+"mv /var/lib/enclave/enclave.db /var/lib/enclave/enclave.db.lost-machine\nBACKUP=/var/backups/enclave/after-the-loss.backup")
	type_("operations/disasters.md", "## The machine is lost", "## The database key is lost")
	hears(t, alpha, bravo)
	type_("operations/disasters.md", "## A counterparty was broken into", "## We were broken into")
	alpha.types(t, stopped+anchored+stopped+"cp -p /var/lib/enclave/enclave.db old.db\nenclave run 2>>/var/log/enclave.log &\nuntil enclave healthcheck; do sleep 1; done\n"+
		"enclave history hold $ID --reason LATER\n"+stopped+"cp -p old.db /var/lib/enclave/enclave.db\n! enclave run")
	type_("operations/disasters.md", "## An old history was put back", "## A counterparty was broken into")
	type_("operations/disasters.md", "## We were broken into", "## The certificate expired")
	alpha.types(t, attempt)
	bravo.types(t, accept)
	alpha.types(t, stopped)
	type_("operations/disasters.md", "## The identity is lost", "## An old history was put back")
	alpha.types(t, attempt)
	bravo.types(t, accept)
	alpha.types(t, transferred("AGAIN"))
	begin("operations/central.md", "## A member that lost its identity", "")
	type_("settings/alliance.md", "", "")

	for _, pattern := range []string{"operations/*.md", "runbooks/*.md", "settings/*.md"} {
		pages, err := filepath.Glob("../../docs/" + pattern)
		if err != nil || len(pages) == 0 {
			t.Fatal(pattern, err)
		}
		for _, page := range pages {
			for _, block := range blocks(string(read(t, page))) {
				if !alpha.typed[block] && !central.typed[block] {
					t.Errorf("nobody has typed this of %s:\n%s", page, block)
				}
			}
		}
	}
}

// runbooksHead is what one gives to one's shell before a runbook.
func runbooksHead(t *testing.T) string {
	t.Helper()
	return chapter(t, "runbooks/README.md", "", "")[0]
}

// Whoever keeps the keys in an HSM types what the decrypt API's page says.
func TestTheDecryptAPIsPageIsFollowed(t *testing.T) { asRoot(t, theDecryptAPIsPageIsFollowed) }

func theDecryptAPIsPageIsFollowed(t *testing.T) {
	program, err := buildDecryptAPI()
	if err != nil {
		t.Fatal(err)
	}
	keys := newMachine(t, "keys")
	keys.types(t, "mkdir bin tokens; PATH=/home/bin:$PATH\necho directories.tokendir = /home/tokens >softhsm2.conf; export SOFTHSM2_CONF=/home/softhsm2.conf\nip addr add 10.0.0.5/32 dev lo; echo 10.0.0.5 keys.example >>/etc/hosts\n"+
		strings.ReplaceAll(authority, "central.example enclave.alpha.example enclave.bravo.example", "keys.example")+
		"cat ca.crt >>/etc/ssl/certs/ca-certificates.crt; cp ca.crt ca.pem; cp keys.example.crt server.pem; cp keys.example.key server.key")
	keys.has(t, "bin/decryptapi", read(t, program))
	keys.has(t, "bin/enclave", read(t, built.Enclave))
	says(t, keys.follows(t, "../deploy/decryptapi/README.md", "", ""), "made database-kek", "AQxkYXRhYmFzZS1rZWsFYWxwaGEM")
}

// alliance is three machines: central's in the middle, and two VASPs', which
// reach central and not each other.
func alliance(t *testing.T) (central, alpha, bravo *machine) {
	t.Helper()
	central, alpha, bravo = newMachine(t, "central"), newMachine(t, "alpha"), newMachine(t, "bravo")
	cable(t, alpha, alphaAt, central, centralAt)
	cable(t, bravo, bravoAt, central, centralAt)
	central.types(t, authority)
	for _, m := range []*machine{central, alpha, bravo} {
		m.installs(t)
		central.gives(t, m, "ca.crt", "ca.crt")
		host := "enclave." + m.name + ".example"
		if m == central {
			host = "central.example"
		}
		central.gives(t, m, host+".crt", "tls.crt")
		central.gives(t, m, host+".key", "tls.key")
		m.types(t, everywhere)
	}
	return central, alpha, bravo
}

const (
	itsBackend = `openssl rand -hex 32 >backend.token
ROBOT_LISTEN=127.0.0.1:8080 ROBOT_ENCLAVE_URL=http://127.0.0.1:21117 ROBOT_TOKEN_FILE=backend.token bin/robotvasp run 2>robot.log &
`
	stopped  = "pkill -TERM -x enclave\nwhile pgrep -x enclave >/dev/null; do sleep 1; done\n"
	anchored = `install -d -m 0700 -o enclave /var/lib/anchor
echo VEGA_DATABASE_ANCHOR_FILE=/var/lib/anchor/anchor >>/etc/enclave/env
enclave run 2>>/var/log/enclave.log &
until enclave healthcheck; do sleep 1; done
`
	// What makes a counterparty look at our identity before its next half minute.
	attempt = `curl -s -d '{"beneficiaryVaspId":"` + bravoID + `","address":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}' http://127.0.0.1:8080/v1.0/action/verifications/account
`
	// What the operator of a VASP does whose counterparty has told its new fingerprint by telephone.
	accept = `until enclave peers show $VASP | grep 'enclave peers accept' >accept; do sleep 1; done
$(sed 's/.*\(enclave peers accept\)/\1/' accept)
`
)

// transferred has the backend send a customer's transfer, and keeps its id.
func transferred(variable string) string {
	return variable + `=$(curl -s -d '{"beneficiaryVaspId":"` + bravoID + `","address":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed","amount":"1.25"}' \
  http://127.0.0.1:8080/v1.0/action/verifications | sed 's/.*"verificationUuid":"\([^"]*\)".*/\1/')
until curl -s "http://127.0.0.1:21117/v1/verifications/$` + variable + `" | grep '"result":"VERIFIED"'; do sleep 1; done
`
}

// hears is a telephone call: what one operator reads out the other keeps, to be
// typed.
func hears(t *testing.T, one, other *machine) {
	t.Helper()
	for variable, line := range map[string]string{"DIGITS": "safety number", "FINGERPRINT": "fingerprint"} {
		command := "enclave peers show $VASP"
		if variable == "FINGERPRINT" {
			command = "enclave identity show"
		}
		_, read, found := strings.Cut(other.types(t, command), line)
		if !found {
			t.Fatalf("%s shows no %s", other.name, line)
		}
		read, _, _ = strings.Cut(read, "\n")
		one.types(t, variable+"='"+strings.TrimSpace(read)+"'")
	}
}

func says(t *testing.T, shown string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(shown, word) {
			t.Errorf("nothing says %q of\n%s", word, shown)
		}
	}
}

// installs has the programs where make build leaves them.
func (m *machine) installs(t *testing.T) {
	t.Helper()
	m.types(t, "mkdir bin")
	for _, program := range []string{built.Enclave, built.Central, built.Robot} {
		m.has(t, "bin/"+filepath.Base(program), read(t, program))
	}
}
