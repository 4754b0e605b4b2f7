// Command image makes the OCI image of a release from the programs that goreleaser built: image VERSION DIST ARCH...
//
// It writes DIST/npcnix_VERSION_image.tar: an image layout in an archive, as skopeo's oci-archive and podman read it.
// No container engine is needed. The image has the program, and the certificates that it trusts.
//
// It is a module of its own, so that its library is none of npcnix's.
package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const certificates = "etc/ssl/certs/ca-certificates.crt"

func main() {
	log.SetFlags(0)
	if len(os.Args) < 4 {
		log.Fatal("usage: image VERSION DIST ARCH...")
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		log.Fatalf("image: %v", err)
	}
}

func run(version, dist string, archs []string) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range archs {
		programs, err := filepath.Glob(filepath.Join(dist, "npcnix_linux_"+arch+"*", "npcnix"))
		if err != nil || len(programs) != 1 {
			return fmt.Errorf("programs for linux on %s: %q, %v", arch, programs, err)
		}
		image, err := imageOf(programs[0], version, arch)
		if err != nil {
			return err
		}
		platform := &v1.Platform{OS: "linux", Architecture: arch}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	}
	dir, err := os.MkdirTemp("", "npcnix-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	whole, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if err := whole.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": version})); err != nil {
		return err
	}
	return pack(dir, filepath.Join(dist, "npcnix_"+version+"_image.tar"))
}

// imageOf makes the image of one platform: one layer, and what it runs.
func imageOf(program, version, arch string) (v1.Image, error) {
	var files bytes.Buffer
	archive := tar.NewWriter(&files)
	for _, dir := range []string{"etc/", "etc/ssl/", "etc/ssl/certs/", "usr/", "usr/bin/", "tmp/"} {
		mode := int64(0o755)
		if dir == "tmp/" {
			mode = 0o1777
		}
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: mode}); err != nil {
			return nil, err
		}
	}
	for _, f := range []struct {
		name, from string
		mode       int64
	}{{certificates, "/" + certificates, 0o644}, {"usr/bin/npcnix", program, 0o755}} {
		data, err := os.ReadFile(f.from)
		if err != nil {
			return nil, err
		}
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(data))}); err != nil {
			return nil, err
		}
		if _, err := archive.Write(data); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.AppendLayers(image, layer); err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, config(image, version, arch))
}

func config(image v1.Image, version, arch string) *v1.ConfigFile {
	file, err := image.ConfigFile()
	if err != nil {
		log.Fatalf("image: %v", err) // it was made in memory
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", arch
	file.Config = v1.Config{
		Entrypoint: []string{"/usr/bin/npcnix"},
		Env:        []string{"PATH=/usr/bin", "HOME=/tmp"},
		User:       "65534:65534",
		WorkingDir: "/tmp",
		Labels: map[string]string{
			"org.opencontainers.image.version":  version,
			"org.opencontainers.image.source":   "https://github.com/npcnix/npcnix",
			"org.opencontainers.image.licenses": "MIT",
		},
	}
	return file
}

// pack makes an archive of a layout.
func pack(dir, file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	archive := tar.NewWriter(f)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err = archive.Write(data)
		return err
	})
	if err == nil {
		err = archive.Close()
	}
	if err == nil {
		err = f.Close()
	}
	return err
}
