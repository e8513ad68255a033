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

// readers follow the handbook: who runs central, who runs Alpha's enclave, and
// who runs Bravo's, which has read it before.
type readers struct{ central, alpha, bravo *machine }

// Whoever runs an enclave, and whoever runs central, types what the handbook
// says, each on a machine of their own, as root, with users, folders and
// addresses as they are written there. What is between is what the pages leave
// to telephones, to counterparties and to chance.
func TestTheHandbookIsFollowed(t *testing.T) { asRoot(t, theHandbookIsFollowed) }

func theHandbookIsFollowed(t *testing.T) {
	r := alliance(t)
	r.install(t)
	r.meet(t)
	r.keep(t)
	r.answerAlerts(t)
	r.changeKeys(t)
	r.surviveDisasters(t)
	r.leaveNothingOut(t)
}

func (r readers) install(t *testing.T) {
	t.Helper()
	r.central.follows(t, "operations/central.md", "", "## Settings")
	for _, m := range []*machine{r.alpha, r.bravo} {
		r.central.gives(t, m, "/etc/central/"+m.name+".key", "alliance.key")
		m.types(t, itsBackend)
	}
	says(t, r.alpha.follows(t, "operations/install.md", "", ""),
		"ok: the settings would start an enclave", "says that our enclave is up", "VEGA_NETWORK_ID=example-alliance-production")
	for _, block := range chapter(t, "operations/install.md", "", "") { // the same page, and other values
		r.bravo.types(t, strings.NewReplacer(alphaID, bravoID, "alpha", "bravo").Replace(block))
	}
	r.alpha.types(t, transferred("OLD")+transferred("ID"))
	r.bravo.types(t, "VASP="+alphaID)
	r.alpha.follows(t, "settings/alliance.md", "", "")
}

// meet is two operators on the telephone, and two identities that change.
func (r readers) meet(t *testing.T) {
	t.Helper()
	r.alpha.hears(t, r.bravo)
	says(t, r.alpha.follows(t, "operations/counterparties.md", "", ""), "verified", "blocked")
	r.believeAgain(t)
	r.alpha.types(t, transferred("AGAIN"))
}

// believeAgain is what Bravo's operator does when Alpha shows an identity
// without continuity.
func (r readers) believeAgain(t *testing.T) {
	t.Helper()
	r.alpha.types(t, attempt)
	r.bravo.types(t, accept)
}

func (r readers) keep(t *testing.T) {
	t.Helper()
	says(t, r.alpha.follows(t, "operations/keys.md", "", ""), "none under way")
	r.alpha.types(t, "DAY=$(date -u +%F)")
	says(t, r.alpha.follows(t, "operations/history.md", "", ""), "Min-jun", "whole", "holds")
	r.alpha.follows(t, "operations/backup.md", "", "### Restore")
	r.alpha.follows(t, "operations/running.md", "", "")
	r.alpha.types(t, stopped)
	says(t, r.alpha.follows(t, "operations/backup.md", "### Restore", ""), "verifications")
	r.alpha.types(t, begun)
	says(t, r.alpha.follows(t, "operations/watching.md", "", ""), "UP")
	r.alpha.follows(t, "operations/troubles.md", "", "")
}

// answerAlerts follows each runbook as if its alert fired.
func (r readers) answerAlerts(t *testing.T) {
	t.Helper()
	alpha, shells := r.alpha, chapter(t, "runbooks/README.md", "", "")
	alpha.types(t, "cp /etc/enclave/env env; sed -i '/_DATABASE_FILE=\\|_BASE64_FILE=\\|SECRET_KEY_FILE=/d' /etc/enclave/env")
	alpha.types(t, "cp -p /etc/enclave/database-2.key /etc/enclave/database.key")
	alpha.types(t, shells[1]) // as under systemd, whose unit has these three
	says(t, alpha.types(t, "enclave check-config; enclave doctor; enclave peers list"), "ok: the settings", "says that our enclave is up", "tofu")
	alpha.types(t, "cp env /etc/enclave/env")
	alpha.types(t, shells[0])
	r.central.types(t, strings.NewReplacer("enclave", "central", "9464", "9465").Replace(shells[0]))
	pages, err := filepath.Glob("../../docs/runbooks/[CE]*.md")
	if err != nil || len(pages) < 40 {
		t.Fatalf("%d runbooks: %v", len(pages), err)
	}
	for _, page := range pages {
		page = filepath.Base(page)
		whose := alpha
		if strings.HasPrefix(page, "Central") {
			whose = r.central
		}
		whose.follows(t, "runbooks/"+page, "", "")
	}
}

// changeKeys is central's operator giving a member a second pair, and somebody
// else's certificate looked at.
func (r readers) changeKeys(t *testing.T) {
	t.Helper()
	r.central.follows(t, "operations/central.md", "## Members file", "## State file")
	r.central.types(t, "cp tls.crt central.pem")
	r.central.follows(t, "settings/public-listener.md", "", "")
	r.central.gives(t, r.alpha, "/etc/central/alpha-2.key", "alliance-2.key")
}

func (r readers) surviveDisasters(t *testing.T) {
	t.Helper()
	worst := func(from, to string) string {
		t.Helper()
		return r.alpha.follows(t, "operations/disasters.md", from, to)
	}
	worst("## The alliance's secret is known to others", "")
	worst("## The certificate expired", "## The alliance's secret is known to others")
	r.alpha.types(t, "rm /etc/enclave/database*.key")
	worst("## The database key is lost", "## The identity is lost")
	r.alpha.types(t, stopped+"rm /var/lib/enclave/enclave.db*\nBACKUP=/var/backups/enclave/after-the-loss.backup")
	says(t, worst("## The machine is lost", "## The database key is lost"), "says that our enclave is up")
	r.alpha.hears(t, r.bravo)
	worst("## A counterparty was broken into", "## We were broken into")
	r.alpha.types(t, stopped+anchored+begun+stopped+"cp -p /var/lib/enclave/enclave.db old.db\n"+begun+"enclave history hold $ID --reason LATER\n"+stopped)
	says(t, r.alpha.types(t, "cp -p old.db /var/lib/enclave/enclave.db\n! enclave run"), "ROLLBACK-SUSPECTED")
	worst("## An old history was put back", "## A counterparty was broken into")
	worst("## We were broken into", "## The certificate expired")
	r.believeAgain(t)
	r.alpha.types(t, stopped+"sed -i '/ANCHOR/d' /etc/enclave/env")
	worst("## The identity is lost", "## An old history was put back")
	r.believeAgain(t)
	r.alpha.types(t, transferred("AGAIN"))
	r.central.follows(t, "operations/central.md", "## A member that lost its identity", "")
}

// leaveNothingOut wants every block of the handbook's pages to have been typed.
func (r readers) leaveNothingOut(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"operations/*.md", "runbooks/*.md", "settings/*.md"} {
		pages, err := filepath.Glob("../../docs/" + pattern)
		if err != nil || len(pages) == 0 {
			t.Fatal(pattern, err)
		}
		for _, page := range pages {
			for _, block := range blocks(string(read(t, page))) {
				if !r.alpha.typed[block] && !r.central.typed[block] {
					t.Errorf("nobody has typed this of %s:\n%s", page, block)
				}
			}
		}
	}
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
func alliance(t *testing.T) readers {
	t.Helper()
	central, alpha, bravo := newMachine(t, "central"), newMachine(t, "alpha"), newMachine(t, "bravo")
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
	return readers{central, alpha, bravo}
}

const (
	itsBackend = `openssl rand -hex 32 >backend.token
ROBOT_LISTEN=127.0.0.1:8080 ROBOT_ENCLAVE_URL=http://127.0.0.1:21117 ROBOT_TOKEN_FILE=backend.token bin/robotvasp run 2>robot.log &
`
	stopped  = "pkill -TERM -x enclave\nwhile pgrep -x enclave >/dev/null; do sleep 1; done\n"
	anchored = `install -d -m 0700 -o enclave /var/lib/anchor
echo VEGA_DATABASE_ANCHOR_FILE=/var/lib/anchor/anchor >>/etc/enclave/env
`
	begun = "enclave run 2>>/var/log/enclave.log &\nuntil enclave healthcheck; do sleep 1; done\n"
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
func (m *machine) hears(t *testing.T, other *machine) {
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
		m.types(t, variable+"='"+strings.TrimSpace(read)+"'")
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
