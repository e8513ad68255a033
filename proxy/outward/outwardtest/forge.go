package outwardtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // for certificates that must be refused
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"
)

// forge makes certificates, right and wrong.
type forge struct {
	t       testing.TB
	address string
	serial  int64
	pool    *x509.CertPool
	root    *authority // ECDSA
	rsaRoot *authority
	rsaKey  *rsa.PrivateKey // a server's
}

func newForge(t testing.TB, address string) *forge {
	t.Helper()
	f := &forge{t: t, address: address, serial: 0x7000, pool: x509.NewCertPool()}
	f.root = f.authority(nil, ecKey(t, elliptic.P256()), nil)
	f.pool.AddCert(f.root.cert)
	return f
}

// withRSA makes the parts of RSA, which take long.
func (f *forge) withRSA() *forge {
	f.t.Helper()
	f.rsaKey = rsaKey(f.t, 2048)
	f.rsaRoot = f.authority(nil, rsaKey(f.t, 2048), func(c *x509.Certificate) { c.Subject.CommonName = "RSA root" })
	f.pool.AddCert(f.rsaRoot.cert)
	return f
}

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

type change = func(*x509.Certificate)

// issue signs a template with a parent's key; nil parent: with its own.
func (f *forge) issue(template *x509.Certificate, parent *authority, key crypto.Signer) []byte {
	f.t.Helper()
	f.serial++
	if template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(f.serial)
	}
	issuer, signer := template, key
	if parent != nil {
		issuer, signer = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		f.t.Fatal(err)
	}
	return der
}

// authority makes one below a parent, or a root.
func (f *forge) authority(parent *authority, key crypto.Signer, with change) *authority {
	f.t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	if parent != nil {
		template.Subject.CommonName = "intermediate"
	}
	if with != nil {
		with(template)
	}
	a := &authority{key: key}
	der := f.issue(template, parent, key)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		f.t.Fatal(err)
	}
	a.cert = cert
	if parent != nil {
		a.chain = append([][]byte{der}, parent.chain...)
	}
	return a
}

// below makes an intermediate below the good root.
func (f *forge) below(with change) *authority {
	return f.authority(f.root, ecKey(f.t, elliptic.P256()), with)
}

func (f *forge) template(host string, with change) *x509.Certificate {
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: "server"}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	if ip := net.ParseIP(host); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{host}
	}
	if with != nil {
		with(c)
	}
	return c
}

// leaf makes a server's certificate for a host.
func (f *forge) leaf(parent *authority, host string, with change) tls.Certificate {
	return f.leafOf(ecKey(f.t, elliptic.P256()), parent, host, with)
}

func (f *forge) leafOf(key crypto.Signer, parent *authority, host string, with change) tls.Certificate {
	f.t.Helper()
	return tls.Certificate{Certificate: append([][]byte{f.issue(f.template(host, with), parent, key)}, parent.chain...), PrivateKey: key}
}

// signed is a certificate's outermost form (RFC 5280, 4.1).
type signed struct {
	Body      asn1.RawValue
	Algorithm asn1.RawValue
	Signature asn1.BitString
}

// edit replaces bytes of a certificate by as many others.
func (f *forge) edit(der []byte, old, new string) []byte {
	f.t.Helper()
	from, to := unhex(f.t, old), unhex(f.t, new)
	if len(from) != len(to) || !bytes.Contains(der, from) {
		f.t.Fatalf("no bytes %s in a certificate", old)
	}
	return bytes.ReplaceAll(der, from, to)
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// resign signs a certificate that was edited again.
func (f *forge) resign(der []byte, by *authority, hash crypto.Hash) []byte {
	f.t.Helper()
	var c signed
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		f.t.Fatal(err)
	}
	h := hash.New()
	h.Write(c.Body.FullBytes)
	sum := h.Sum(nil)
	sign := func() ([]byte, error) { return by.key.Sign(rand.Reader, sum, hash) }
	signature, err := sign()
	if err != nil {
		f.t.Fatal(err)
	}
	c.Signature = asn1.BitString{Bytes: signature, BitLength: len(signature) * 8}
	der, err = asn1.Marshal(c)
	if err != nil {
		f.t.Fatal(err)
	}
	return der
}

// first replaces the server's own certificate.
func first(pair tls.Certificate, der []byte) tls.Certificate {
	pair.Certificate = append([][]byte{der}, pair.Certificate[1:]...)
	return pair
}

// Object identifiers of signatures, without their last byte: PKCS #1 v1.5 by
// hash.
const (
	rsaWith   = "06092a864886f70d0101"
	withSHA2  = rsaWith + "0b"
	withSHA1  = rsaWith + "05"
	withMD5   = rsaWith + "04"
	withMD2   = rsaWith + "02"
	withOther = rsaWith + "7f"
)

// hashed is a certificate of the RSA root whose signature is of another hash.
func (f *forge) hashed(oid string, hash crypto.Hash) tls.Certificate {
	pair := f.leaf(f.rsaRoot, f.address, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA256WithRSA })
	return first(pair, f.resign(f.edit(pair.Certificate[0], withSHA2, oid), f.rsaRoot, hash))
}

// kind is one way to be a bad server.
type kind struct {
	name  string
	host  string // "" is the address
	says  string
	pair  func(*forge) tls.Certificate
	tls   func(*tls.Config)
	plain bool
}

// leafWith is a kind whose own certificate is wrong.
func leafWith(with change) func(*forge) tls.Certificate {
	return func(f *forge) tls.Certificate { return f.leaf(f.root, f.address, with) }
}

// named is a kind whose certificate has other names than localhost.
func named(with change) func(*forge) tls.Certificate {
	return func(f *forge) tls.Certificate {
		return f.leaf(f.root, "localhost", func(c *x509.Certificate) { c.DNSNames = nil; with(c) })
	}
}

// underWith is a kind whose intermediate authority is wrong.
func underWith(with change) func(*forge) tls.Certificate {
	return func(f *forge) tls.Certificate { return f.leaf(f.below(with), f.address, nil) }
}

// onlyVersion is a server of one version of TLS and some ciphers of it.
func onlyVersion(version uint16, ciphers ...uint16) func(*tls.Config) {
	return func(c *tls.Config) { c.MinVersion, c.MaxVersion, c.CipherSuites = version, version, ciphers }
}

func good(f *forge) tls.Certificate { return f.leaf(f.root, f.address, nil) }

func goodRSA(f *forge) tls.Certificate { return f.leafOf(f.rsaKey, f.rsaRoot, f.address, nil) }

// otherKey is a good certificate without its key.
func otherKey(f *forge) tls.Certificate {
	pair := good(f)
	pair.PrivateKey = ecKey(f.t, elliptic.P256())
	return pair
}

const day = 24 * time.Hour

func (f *forge) kinds() []kind {
	const (
		unknown = "signed by unknown authority"
		changed = "ECDSA verification failure"
		cannot  = "parent certificate cannot sign"
		version = "protocol version not supported"
		hello   = "handshake failure"
	)
	ext := func(critical bool) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: critical, Value: []byte{5, 0}}
	}
	usage := func(u ...x509.ExtKeyUsage) change { return func(c *x509.Certificate) { c.ExtKeyUsage = u } }
	_, everywhere, _ := net.ParseCIDR("127.0.0.0/8")
	_, elsewhere, _ := net.ParseCIDR("192.0.2.0/24")
	return []kind{
		// Time.
		{name: "expired", says: "expired", pair: leafWith(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*day), time.Now().Add(-time.Minute)
		})},
		{name: "not yet valid", says: "not yet valid", pair: leafWith(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })},
		{name: "intermediate expired", says: "expired", pair: underWith(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*day), time.Now().Add(-time.Minute)
		})},
		{name: "intermediate not yet valid", says: "not yet valid", pair: underWith(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })},
		{name: "trusted root expired", says: "expired", pair: func(f *forge) tls.Certificate {
			old := f.authority(nil, ecKey(f.t, elliptic.P256()), func(c *x509.Certificate) {
				c.Subject.CommonName, c.NotBefore, c.NotAfter = "old root", time.Now().Add(-2*day), time.Now().Add(-time.Minute)
			})
			f.pool.AddCert(old.cert)
			return f.leaf(old, f.address, nil)
		}},
		// Names.
		{name: "another address", says: "not 127.0.0.", pair: leafWith(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("127.9.9.9")} })},
		{name: "a name and no address", says: "any IP SANs", pair: leafWith(func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"localhost"} })},
		{name: "the address as a name", says: "any IP SANs", pair: func(f *forge) tls.Certificate {
			return f.leaf(f.root, f.address, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{f.address} })
		}},
		{name: "the address as common name", says: "Common Name", pair: func(f *forge) tls.Certificate {
			return f.leaf(f.root, f.address, func(c *x509.Certificate) { c.IPAddresses, c.Subject.CommonName = nil, f.address })
		}},
		{name: "no name at all", says: "any IP SANs", pair: leafWith(func(c *x509.Certificate) { c.IPAddresses, c.Subject = nil, pkix.Name{} })},
		{name: "another name", host: "localhost", says: "not localhost", pair: named(func(c *x509.Certificate) { c.DNSNames = []string{"backend.example"} })},
		{name: "a longer name", host: "localhost", says: "not localhost", pair: named(func(c *x509.Certificate) { c.DNSNames = []string{"localhost.example", "xlocalhost"} })},
		{name: "a name with a NUL", host: "localhost", says: "not localhost", pair: named(func(c *x509.Certificate) { c.DNSNames = []string{"localhost\x00.example"} })},
		{name: "common name only", host: "localhost", says: "Common Name", pair: named(func(c *x509.Certificate) { c.Subject.CommonName = "localhost" })},
		{name: "wildcard for all", host: "localhost", says: "not localhost", pair: named(func(c *x509.Certificate) { c.DNSNames = []string{"*"} })},
		{name: "wildcard for what is below", host: "localhost", says: "not localhost", pair: named(func(c *x509.Certificate) { c.DNSNames = []string{"*.localhost"} })},
		{name: "wildcard within a label", host: "localhost", says: "not localhost", pair: named(func(c *x509.Certificate) { c.DNSNames = []string{"local*"} })},
		{name: "name as URI", host: "localhost", says: "wanted to match localhost", pair: named(func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "https", Host: "localhost"}} })},
		{name: "name as mail address", host: "localhost", says: "wanted to match localhost", pair: named(func(c *x509.Certificate) { c.EmailAddresses = []string{"root@localhost"} })},
		// Authorities.
		{name: "self-signed", says: unknown, pair: func(f *forge) tls.Certificate {
			key := ecKey(f.t, elliptic.P256())
			return tls.Certificate{Certificate: [][]byte{f.issue(f.template(f.address, nil), nil, key)}, PrivateKey: key}
		}},
		{name: "unknown authority", says: unknown, pair: func(f *forge) tls.Certificate {
			return f.leaf(f.authority(nil, ecKey(f.t, elliptic.P256()), func(c *x509.Certificate) { c.Subject.CommonName = "stranger" }), f.address, nil)
		}},
		{name: "unknown authority in our root's name", says: changed, pair: func(f *forge) tls.Certificate {
			return f.leaf(f.authority(nil, ecKey(f.t, elliptic.P256()), func(c *x509.Certificate) { c.SubjectKeyId = f.root.cert.SubjectKeyId }), f.address, nil)
		}},
		{name: "unknown authority sent along", says: changed, pair: func(f *forge) tls.Certificate {
			a := f.authority(nil, ecKey(f.t, elliptic.P256()), nil)
			a.chain = [][]byte{a.cert.Raw}
			return f.leaf(a, f.address, nil)
		}},
		{name: "intermediate missing", says: unknown, pair: func(f *forge) tls.Certificate {
			a := f.below(nil)
			a.chain = nil
			return f.leaf(a, f.address, nil)
		}},
		{name: "intermediate first", says: "any IP SANs", pair: func(f *forge) tls.Certificate {
			a := f.below(nil)
			pair := f.leaf(a, f.address, nil)
			return tls.Certificate{Certificate: [][]byte{a.cert.Raw, pair.Certificate[0]}, PrivateKey: a.key}
		}},
		{name: "intermediate is no authority", says: cannot, pair: underWith(func(c *x509.Certificate) { c.IsCA = false })},
		{name: "intermediate without basic constraints", says: cannot, pair: underWith(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false })},
		{name: "intermediate may not sign", says: cannot, pair: underWith(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })},
		{name: "signed by another server's certificate", says: cannot, pair: func(f *forge) tls.Certificate {
			key := ecKey(f.t, elliptic.P256())
			der := f.issue(f.template("192.0.2.1", nil), f.root, key)
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				f.t.Fatal(err)
			}
			return f.leaf(&authority{cert, key, [][]byte{der}}, f.address, nil)
		}},
		{name: "path too long", says: "too many intermediates", pair: func(f *forge) tls.Certificate {
			short := f.below(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
			return f.leaf(f.authority(short, ecKey(f.t, elliptic.P256()), func(c *x509.Certificate) { c.Subject.CommonName = "second" }), f.address, nil)
		}},
		{name: "address outside the authority's", says: "not permitted", pair: underWith(func(c *x509.Certificate) { c.PermittedIPRanges = []*net.IPNet{elsewhere} })},
		{name: "address excluded", says: "excluded", pair: underWith(func(c *x509.Certificate) { c.ExcludedIPRanges = []*net.IPNet{everywhere} })},
		{name: "name outside the authority's", host: "localhost", says: "not permitted", pair: func(f *forge) tls.Certificate {
			return f.leaf(f.below(func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example"} }), "localhost", nil)
		}},
		{name: "name excluded", host: "localhost", says: "excluded", pair: func(f *forge) tls.Certificate {
			return f.leaf(f.below(func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"localhost"} }), "localhost", nil)
		}},
		// Purposes.
		{name: "for clients only", says: "incompatible key usage", pair: leafWith(usage(x509.ExtKeyUsageClientAuth))},
		{name: "for signing code", says: "incompatible key usage", pair: leafWith(usage(x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageEmailProtection))},
		{name: "for an unknown purpose", says: "incompatible key usage", pair: leafWith(func(c *x509.Certificate) {
			c.ExtKeyUsage, c.UnknownExtKeyUsage = nil, []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 99999, 2}}
		})},
		{name: "intermediate for clients only", says: "incompatible key usage", pair: underWith(usage(x509.ExtKeyUsageClientAuth))},
		// Signatures and keys.
		{name: "signature tampered with", says: changed, pair: func(f *forge) tls.Certificate {
			pair := good(f)
			der := bytes.Clone(pair.Certificate[0])
			der[len(der)-1] ^= 1
			return first(pair, der)
		}},
		{name: "content tampered with", says: changed, pair: func(f *forge) tls.Certificate {
			pair := f.leaf(f.root, "127.9.9.9", nil)
			return first(pair, f.edit(pair.Certificate[0], "87047f090909", "8704"+hex.EncodeToString(net.ParseIP(f.address).To4())))
		}},
		{name: "signed with SHA-1", says: "insecure algorithm SHA1-RSA", pair: func(f *forge) tls.Certificate { return f.hashed(withSHA1, crypto.SHA1) }},
		{name: "signed with MD5", says: "insecure algorithm MD5-RSA", pair: func(f *forge) tls.Certificate { return f.hashed(withMD5, crypto.MD5) }},
		{name: "signed with MD2", says: "algorithm unimplemented", pair: func(f *forge) tls.Certificate { return f.hashed(withMD2, crypto.SHA256) }},
		{name: "signed with an unknown algorithm", says: "algorithm unimplemented", pair: func(f *forge) tls.Certificate { return f.hashed(withOther, crypto.SHA256) }},
		{name: "RSA 1024", says: "weak key", pair: func(f *forge) tls.Certificate { return f.leafOf(rsaKey(f.t, 1024), f.rsaRoot, f.address, nil) }},
		{name: "RSA 2047", says: "weak key", pair: func(f *forge) tls.Certificate { return f.leafOf(rsaKey(f.t, 2047), f.rsaRoot, f.address, nil) }},
		{name: "intermediate of RSA 1024", says: "weak key", pair: func(f *forge) tls.Certificate {
			return f.leaf(f.authority(f.root, rsaKey(f.t, 1024), nil), f.address, nil)
		}},
		{name: "intermediate of P-224", says: "weak key", pair: func(f *forge) tls.Certificate {
			return f.leaf(f.authority(f.root, ecKey(f.t, elliptic.P224()), nil), f.address, nil)
		}},
		{name: "another's certificate, TLS 1.3", says: "invalid signature", pair: otherKey, tls: onlyVersion(tls.VersionTLS13)},
		{name: "another's certificate, TLS 1.2", says: "invalid signature", pair: otherKey, tls: onlyVersion(tls.VersionTLS12)},
		// Forms.
		{name: "unknown critical extension", says: "unhandled critical extension", pair: leafWith(func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{ext(true)} })},
		{name: "intermediate with an unknown critical extension", says: "unhandled critical extension", pair: underWith(func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{ext(true)} })},
		{name: "an extension twice", says: "duplicate extension", pair: leafWith(func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{ext(false), ext(false)} })},
		{name: "a version of the future", says: "invalid version", pair: func(f *forge) tls.Certificate {
			pair := good(f)
			return first(pair, f.resign(f.edit(pair.Certificate[0], "a003020102", "a003020103"), f.root, crypto.SHA256))
		}},
		{name: "negative serial", says: "negative serial number", pair: func(f *forge) tls.Certificate {
			pair := f.leaf(f.root, f.address, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(0x7172737475) })
			return first(pair, f.resign(f.edit(pair.Certificate[0], "02057172737475", "0205f172737475"), f.root, crypto.SHA256))
		}},
		{name: "two algorithms", says: "algorithm identifiers don't match", pair: func(f *forge) tls.Certificate {
			pair := f.leaf(f.rsaRoot, f.address, nil)
			i := bytes.LastIndex(pair.Certificate[0], unhex(f.t, withSHA2))
			der := bytes.Clone(pair.Certificate[0])
			der[i+len(withSHA2)/2-1] = 0x0c
			return first(pair, der)
		}},
		{name: "bytes after the end", says: "trailing data", pair: func(f *forge) tls.Certificate {
			pair := good(f)
			return first(pair, append(bytes.Clone(pair.Certificate[0]), 0))
		}},
		{name: "no certificate but bytes", says: "malformed certificate", pair: func(f *forge) tls.Certificate {
			sum := sha256.Sum256([]byte("no certificate"))
			return first(good(f), sum[:])
		}},
		// Protocols.
		{name: "TLS 1.0", says: version, pair: good, tls: onlyVersion(tls.VersionTLS10)},
		{name: "TLS 1.1", says: version, pair: good, tls: onlyVersion(tls.VersionTLS11)},
		{name: "CBC, ECDSA", says: hello, pair: good, tls: onlyVersion(tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA)},
		{name: "CBC, RSA", says: hello, pair: goodRSA, tls: onlyVersion(tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA)},
		{name: "RC4", says: hello, pair: goodRSA, tls: onlyVersion(tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA)},
		{name: "3DES", says: hello, pair: goodRSA, tls: onlyVersion(tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA)},
		{name: "RSA key exchange", says: hello, pair: goodRSA, tls: onlyVersion(tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384)},
		{name: "another protocol", says: "no application protocol", pair: good, tls: func(c *tls.Config) { c.NextProtos = []string{"smtp"} }},
		{name: "no TLS", says: "first record does not look like a TLS handshake", pair: good, plain: true},
	}
}
