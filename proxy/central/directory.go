package central

import (
	"net/http"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// directory answers GET /relay/v1/vasps: the active members that the caller
// is connected with, itself included, in the order of the members file.
func (s *Server) directory(w http.ResponseWriter, _ *http.Request, from *seat, _ *relay.Verified) {
	d := relay.Directory{VASPs: []relay.Member{}}
	now := s.config.Now()
	r := s.roster.Load()
	for _, m := range r.members.active() {
		if from.member.connected(m) {
			d.VASPs = append(d.VASPs, r.seats[m.VASPID].describe(now))
		}
	}
	writeJSON(w, d)
}

// describe is a member as the others see it.
func (s *seat) describe(now time.Time) relay.Member {
	m := s.member
	d := relay.Member{
		Health: s.health(now), VASPID: m.VASPID, VASPName: m.Name, LegalName: m.LegalName, Jurisdiction: m.Jurisdiction, IsAlliance: true,
		Country: m.Country, CountryCode: m.CountryCode, Protocol: relay.Protocol, LicensedStatus: m.LicensedStatus,
		VASPStatus: relay.StatusVerified, CreatedAt: relay.Timestamp(m.CreatedAt), UpdatedAt: relay.Timestamp(m.CreatedAt),
	}
	if e, _ := s.sitting(now); e != nil {
		r := e.kept.Registration
		d.VASPStatus, d.UpdatedAt = relay.StatusMember, relay.Timestamp(e.kept.UpdatedAt)
		d.Identity, d.Suites, d.EnclaveVersion = r.Identity, r.Suites, r.Version
	}
	return d
}
