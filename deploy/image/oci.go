package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"
)

// Media types of the OCI image format, version 1.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type imageConfig struct {
	Created string `json:"created"`
	platform
	Config  config    `json:"config"`
	RootFS  rootFS    `json:"rootfs"`
	History []history `json:"history"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type history struct {
	Created    string `json:"created"`
	CreatedBy  string `json:"created_by"`
	EmptyLayer bool   `json:"empty_layer,omitempty"`
}

// image is one that was built.
type image struct {
	Name, Archive string
	Digest        string // of its manifest: what one pins
	Size          int    // of config and layers, as a registry would count
	Unpacked      int64
	Layers        []layer
	Parts         []component // what its program is linked from
}

type layer struct {
	Digest, DiffID, Of string
	Size               int
	Unpacked           int64
	Files              int
	blob               []byte
}

// report is what make image prints.
func (i *image) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n  archive  %s\n  digest   %s\n  size     %s, unpacked %s, %d layers\n",
		i.Name, i.Archive, i.Digest, mega(int64(i.Size)), mega(i.Unpacked), len(i.Layers))
	for _, l := range i.Layers {
		fmt.Fprintf(&b, "    %s %10d bytes %3d entries  %s\n", l.Digest, l.Size, l.Files, l.Of)
	}
	count := map[string]int{}
	for _, p := range i.Parts {
		count[strings.Join(p.Licences, " AND ")]++
	}
	fmt.Fprintf(&b, "  linked   from %d modules:", len(i.Parts))
	for _, licence := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(&b, " %d %s,", count[licence], licence)
	}
	return strings.TrimSuffix(b.String(), ",") + "\n"
}

func mega(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// assemble writes the image of one stage of the Dockerfile.
func assemble(o options, staged string, s stage) (*image, error) {
	i := &image{Name: s.Name, Archive: filepath.Join(o.Out, s.Name+".tar")}
	created := o.Time.Format(time.RFC3339)
	c := imageConfig{Created: created, platform: platform{o.Arch, "linux"}, Config: s.Config, RootFS: rootFS{Type: "layers"}}
	m := manifest{SchemaVersion: 2, MediaType: typeManifest, Annotations: map[string]string{"org.opencontainers.image.created": created}}
	for name, value := range s.Config.Labels {
		m.Annotations[name] = value
	}
	blobs := map[string][]byte{}
	for _, copied := range s.Copies {
		l, err := makeLayer(o.Time, staged, copied)
		if err != nil {
			return nil, err
		}
		blobs[l.Digest] = l.blob
		i.Layers = append(i.Layers, l)
		i.Size += l.Size
		i.Unpacked += l.Unpacked
		m.Layers = append(m.Layers, descriptor{MediaType: typeLayer, Digest: l.Digest, Size: l.Size})
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.DiffID)
		c.History = append(c.History, history{Created: created, CreatedBy: l.Of})
	}
	put := func(mediaType string, v any) (descriptor, error) {
		content, err := json.Marshal(v)
		d := descriptor{MediaType: mediaType, Digest: digest(content), Size: len(content)}
		blobs[d.Digest] = content
		return d, err
	}
	var err error
	if m.Config, err = put(typeConfig, c); err != nil {
		return nil, err
	}
	i.Size += m.Config.Size
	d, err := put(typeManifest, m)
	if err != nil {
		return nil, err
	}
	i.Digest = d.Digest
	tag := s.Config.Labels["org.opencontainers.image.title"] + ":" + o.Version
	d.Platform = &platform{o.Arch, "linux"}
	d.Annotations = map[string]string{"org.opencontainers.image.ref.name": o.Version, "io.containerd.image.name": tag}
	return i, i.archive(o.Time, index{2, typeIndex, []descriptor{d}}, m, tag, blobs)
}

// archive writes the OCI layout as one tar file. manifest.json is how older
// versions of Docker find the same blobs.
func (i *image) archive(t time.Time, x index, m manifest, tag string, blobs map[string][]byte) error {
	type docker struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	blob := func(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }
	old := docker{Config: blob(m.Config.Digest), RepoTags: []string{tag}}
	for _, l := range m.Layers {
		old.Layers = append(old.Layers, blob(l.Digest))
	}
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	for name, v := range map[string]any{"index.json": x, "manifest.json": []docker{old}} {
		content, err := json.Marshal(v)
		if err != nil {
			return err
		}
		files[name] = content
	}
	for d, content := range blobs {
		files[blob(d)] = content
	}
	names := []string{"blobs/", "blobs/sha256/"}
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range names {
		mode := int64(0o644)
		if strings.HasSuffix(name, "/") {
			mode = 0o755
		}
		if err := entry(w, t, name, files[name], mode, 0, 0); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return write(i.Archive, out.Bytes())
}

// makeLayer packs a folder of the stage. Names are sorted, times are one, and
// modes are those of the Dockerfile or the usual ones, whatever the umask was.
func makeLayer(t time.Time, staged string, c copying) (layer, error) {
	from := filepath.Join(staged, c.From)
	l := layer{Of: "COPY " + c.From + "/ /" + c.To}
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	add := func(name string, content []byte, mode int64, uid, gid int) error {
		l.Files++
		return entry(w, t, name, content, mode, uid, gid)
	}
	if c.To != "" {
		if err := parents(c.To, func(dir string) error { return add(dir+"/", nil, 0o755, 0, 0) }); err != nil {
			return l, err
		}
	}
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		name, mode := path.Join(c.To, filepath.ToSlash(below)), c.Mode
		switch {
		case name == ".":
			return nil
		case d.IsDir():
			if mode == 0 {
				mode = 0o755
			}
			return add(name+"/", nil, mode, c.UID, c.GID)
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is neither a file nor a folder", p)
		}
		content, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if mode == 0 {
			mode = 0o644
			if info, err := d.Info(); err != nil {
				return err
			} else if info.Mode()&0o100 != 0 {
				mode = 0o755
			}
		}
		l.Unpacked += int64(len(content))
		return add(name, content, mode, c.UID, c.GID)
	})
	if err != nil {
		return l, err
	}
	if err := w.Close(); err != nil {
		return l, err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return l, err
	}
	if _, err := io.Copy(z, bytes.NewReader(plain.Bytes())); err != nil {
		return l, err
	}
	if err := z.Close(); err != nil {
		return l, err
	}
	l.DiffID, l.blob = digest(plain.Bytes()), packed.Bytes()
	l.Digest, l.Size = digest(l.blob), len(l.blob)
	return l, nil
}

// parents calls add for each folder above a path, from the top.
func parents(p string, add func(dir string) error) error {
	dir := path.Dir(p)
	if dir == "." {
		return nil
	}
	if err := parents(dir, add); err != nil {
		return err
	}
	return add(dir)
}

// entry writes one file, or a folder when the name ends in a slash.
func entry(w *tar.Writer, t time.Time, name string, content []byte, mode int64, uid, gid int) error {
	h := &tar.Header{Name: name, Mode: mode, Uid: uid, Gid: gid, ModTime: t, Format: tar.FormatUSTAR, Typeflag: tar.TypeReg, Size: int64(len(content))}
	if strings.HasSuffix(name, "/") {
		h.Typeflag = tar.TypeDir
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}
