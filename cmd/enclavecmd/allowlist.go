package enclavecmd

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/vasp-enclave/vasp-enclave/proxy/allow"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
)

// maxAllowlistFile bounds how much of the file is read, in bytes: more than
// any list that is taken.
const maxAllowlistFile = 1<<20 + 1

// loadAllowlist reads the list of callers that s gives, and puts it in force.
// On an error the list of before stays. It may be called while the enclave
// runs.
func (p *parts) loadAllowlist(s *Settings) error {
	list, err := p.readAllowlist(s)
	if err == nil {
		p.allowed.Swap(list)
	}
	return err
}

// readAllowlist judges the list of callers that s gives, in its text or its
// file. The error names the setting, the entry and the remedy.
func (p *parts) readAllowlist(s *Settings) (*allow.List, error) {
	if s.AllowlistFile == "" {
		list, err := allow.ParseCallers(s.CentralAllowlist, p.proxies)
		return list, named("VEGA_CENTRAL_ALLOWLIST", err)
	}
	text, err := readAllowlistFile(s.AllowlistFile)
	if err != nil {
		return nil, named("VEGA_CENTRAL_ALLOWLIST_FILE", err)
	}
	list, err := allow.ParseCallers(text, p.proxies)
	return list, named("VEGA_CENTRAL_ALLOWLIST_FILE", err)
}

func readAllowlistFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%w; name a file that the enclave's user may read", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxAllowlistFile))
	if err != nil {
		return "", fmt.Errorf("%w; name a file, not a folder", err)
	}
	return string(text), nil
}

// emptyAllowlist says loudly what a list without entries means; nil when it
// has some. Only a file can be without.
func (p *parts) emptyAllowlist() error {
	if p.allowed.Len() > 0 {
		return nil
	}
	return errors.New("VEGA_CENTRAL_ALLOWLIST, or its file, has no entries: nobody may connect, and no other VASP reaches this enclave; give central's addresses")
}

// sources is how a caller behind a load balancer is known.
func (p *parts) sources(s *Settings) edge.Sources {
	return edge.Sources{
		Proxies: p.proxies, ProxyProtocol: s.ProxyProtocol == requireProxyProtocol, ForwardedHeader: s.ForwardedHeader, ReportOnly: s.ReportOnly,
	}
}

// hosts are the names under which requests may be made: the public endpoint's,
// or any behind a proxy that makes requests of its own.
func (s *Settings) hosts() []string {
	if s.ForwardedHeader != "" {
		return nil
	}
	return []string{s.PublicEndpoint.URL().Hostname()}
}
