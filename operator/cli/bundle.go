// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// bundleOptions are the flags of bundle.
type bundleOptions struct {
	*factory

	file     string
	since    time.Duration
	maxBytes int64
	// logs reads a log of a container.
	logs func(ctx context.Context, namespace, pod string, options *corev1.PodLogOptions) (io.ReadCloser, error)
}

func newBundle(f *factory) *cobra.Command {
	o := &bundleOptions{factory: f}
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Collect what support needs into an archive, without secrets",
		Long: `Collect what somebody needs who looks for the cause of trouble: Meshwright's objects, the Deployments, Services, webhooks and pods of control planes and gateways,
events, labels of namespaces, versions, counts, and the logs of the operator and of istiods.

Secrets are not read. Values that look like one are taken out everywhere: by the name of a field, variable, flag or header, by their form (tokens, keys, what is
encoded), and of URLs user, query, and where they are called the path. What could not be read is named in manifest.json, with the reason, and is no error, unless
nothing could be read: then there is no archive. Look through
the archive before you give it away all the same.`,
		Example: example("kubectl mesh bundle", "kubectl mesh bundle --out /tmp/mesh.tgz --since 6h"),
		Args:    cobra.NoArgs, ValidArgsFunction: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.Client()
			if err != nil {
				return err
			}
			config, err := f.Config()
			if err != nil {
				return err
			}
			pods, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			o.logs = func(ctx context.Context, namespace, pod string, options *corev1.PodLogOptions) (io.ReadCloser, error) {
				return pods.CoreV1().Pods(namespace).GetLogs(pod, options).Stream(ctx)
			}
			return o.run(cmd.Context(), c)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.file, "out", "", "File that is written, anew if it is there. Default: meshwright-<time>.tgz")
	flags.DurationVar(&o.since, "since", time.Hour, "How far back logs go")
	flags.Int64Var(&o.maxBytes, "max-bytes", 5<<20, "How much of each log there is at most, in bytes: its end")
	return cmd
}

func (o *bundleOptions) run(ctx context.Context, c client.Client) (err error) {
	if o.since <= 0 || o.maxBytes <= 0 {
		return usagef("--since and --max-bytes are more than 0")
	}
	now := o.Clock.Now()
	if o.file == "" {
		o.file = "meshwright-" + now.UTC().Format("20060102-150405") + ".tgz"
	}
	// It has its name when it is whole: one that was interrupted leaves nothing.
	file, err := os.CreateTemp(filepath.Dir(o.file), ".meshwright-bundle-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
		}
	}()
	packed := gzip.NewWriter(file)
	b := &bundle{
		bundleOptions: o, client: c, tar: tar.NewWriter(packed), root: "meshwright", redactor: &redactor{},
		manifest: BundleManifest{
			TypeMeta: viewOf("BundleManifest"), Created: metav1.NewTime(now.UTC().Truncate(time.Second)), Plugin: Version, SinceSeconds: int64(o.since.Seconds()),
			Files: []BundleFile{}, Omitted: []BundleOmission{{What: "Secrets", Why: "they are never read"}},
		},
	}
	if err := b.collect(ctx); err != nil {
		return err
	}
	for _, closer := range []io.Closer{b.tar, packed, file} {
		if err := closer.Close(); err != nil {
			return err
		}
	}
	if err := os.Rename(file.Name(), o.file); err != nil {
		return err
	}
	_, err = fmt.Fprintf(o.Out, "%s: %d files, %d left out, %d values redacted\n", o.file, len(b.manifest.Files), len(b.manifest.Omitted), b.redactor.count)
	return err
}

// bundle is an archive that is being written.
type bundle struct {
	*bundleOptions
	client   client.Client
	tar      *tar.Writer
	root     string
	redactor *redactor
	manifest BundleManifest

	// operator is the namespace that the operator is looked for in.
	operator string
	// read counts what the API server has listed; unread is why the first that it has not was not.
	read   int
	unread error
}

// progress tells people what is being done.
func (b *bundle) progress(what string) { _, _ = fmt.Fprintln(b.ErrOut, "collecting "+what) }

// omit notes that something is left out.
func (b *bundle) omit(what string, why error) {
	b.manifest.Omitted = append(b.manifest.Omitted, BundleOmission{What: what, Why: b.redactor.text(why.Error())})
}

// write adds a file.
func (b *bundle) write(name string, content []byte) error {
	header := &tar.Header{Name: path.Join(b.root, name), Mode: 0o600, Size: int64(len(content)), ModTime: b.manifest.Created.Time}
	if err := b.tar.WriteHeader(header); err != nil {
		return err
	}
	b.manifest.Files = append(b.manifest.Files, BundleFile{Path: name, Bytes: int64(len(content))})
	_, err := b.tar.Write(content)
	return err
}

// writeObject adds an object of the API server, without its secrets.
func (b *bundle) writeObject(name string, o map[string]any) error {
	raw, err := yaml.Marshal(b.redactor.object(o))
	if err != nil {
		return err
	}
	return b.write(name, raw)
}

func (b *bundle) writeJSON(name string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return b.write(name, append(raw, '\n'))
}

// finish writes what is in the archive, and what is not.
func (b *bundle) finish() error {
	b.manifest.Redacted = b.redactor.count
	return b.writeJSON("manifest.json", b.manifest)
}

// tail reads the end of a log, from the beginning of a line.
func tail(in io.Reader, most int64) ([]byte, error) {
	var kept []byte
	buffer := make([]byte, 64<<10)
	cut := false
	for {
		n, err := in.Read(buffer)
		kept = append(kept, buffer[:n]...)
		if int64(len(kept)) > 2*most {
			kept, cut = append([]byte(nil), kept[int64(len(kept))-most:]...), true
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if int64(len(kept)) > most {
		kept, cut = kept[int64(len(kept))-most:], true
	}
	if !cut {
		return kept, nil
	}
	_, rest, found := bytes.Cut(kept, []byte("\n"))
	if !found {
		return nil, nil
	}
	return rest, nil
}
