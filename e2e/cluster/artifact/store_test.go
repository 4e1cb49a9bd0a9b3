// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// recorder is a Progress that remembers.
type recorder struct {
	mu    sync.Mutex
	lines []string
	// said is told every line of Say, if set.
	said func(string)
}

func (r *recorder) Say(line string) {
	r.mu.Lock()
	r.lines = append(r.lines, line)
	r.mu.Unlock()
	if r.said != nil {
		r.said(line)
	}
}

func (r *recorder) Begin(what string, _ time.Duration) func(error) {
	r.Say("begin " + what)
	return func(err error) { r.Say(fmt.Sprintf("end %s: %v", what, err)) }
}

// toy is a maker whose content is its seed and which counts how often it made something.
type toy struct {
	seed string
	made *int
	// before runs in the middle of the making.
	before func(out *os.File) error
}

func (m *toy) fingerprint(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, m.seed)
	return err
}

func (m *toy) make(_ context.Context, out string) error {
	if m.made != nil {
		*m.made++
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	if m.before != nil {
		if err := m.before(f); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	_, err = f.WriteString(m.seed)
	return errors.Join(err, f.Close())
}

// toyStore makes pause and, out of it, the image of pause.
func toyStore(dir string, pause, image *toy) *Store {
	return &Store{dir: dir, recipes: func(a Artifact) (recipe, error) {
		switch a {
		case Pause():
			return recipe{file: "pause", maker: fixed(pause)}, nil
		case pauseImage:
			return recipe{file: "image.tar", inputs: []Artifact{Pause()}, maker: func(_ context.Context, in map[Artifact]string) (maker, error) {
				m := *image
				m.seed += " from " + filepath.Base(filepath.Dir(in[Pause()]))
				return &m, nil
			}}, nil
		}
		return recipe{}, fmt.Errorf("no recipe for %s", a)
	}}
}

var pauseImage = Artifact{kindPauseImage, "1.34.4"}

func mustEnsure(t *testing.T, s *Store, want ...Artifact) map[Artifact]string {
	t.Helper()
	paths, err := s.Ensure(t.Context(), &recorder{}, want...)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestEnsureMakesOnce(t *testing.T) {
	var binaries, images int
	pause, image := &toy{seed: "pause", made: &binaries}, &toy{seed: "image", made: &images}
	s := toyStore(t.TempDir(), pause, image)

	first := mustEnsure(t, s, pauseImage)
	if diff := cmp.Diff([]int{1, 1}, []int{binaries, images}); diff != "" {
		t.Errorf("an image takes its binary along (-want +got):\n%s", diff)
	}
	if _, asked := first[Pause()]; asked {
		t.Error("the answer holds what was asked for, not what went into it")
	}
	if diff := cmp.Diff(first, mustEnsure(t, s, pauseImage), cmp.AllowUnexported(Artifact{})); diff != "" {
		t.Errorf("the second time it is the same file (-first +second):\n%s", diff)
	}
	if binaries != 1 || images != 1 {
		t.Errorf("what is there is not made again: %d binaries, %d images", binaries, images)
	}

	pause.seed = "pause, changed"
	second := mustEnsure(t, s, pauseImage)
	if second[pauseImage] == first[pauseImage] || binaries != 2 || images != 2 {
		t.Errorf("a changed input makes another binary and another image: %d binaries, %d images", binaries, images)
	}
	pause.seed = "pause"
	if diff := cmp.Diff(first, mustEnsure(t, s, pauseImage), cmp.AllowUnexported(Artifact{})); diff != "" || binaries != 2 {
		t.Errorf("changed back, the first one is still there (-first +third):\n%s", diff)
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	refuse := errors.New("compiler says no")
	pause := &toy{seed: "pause", before: func(*os.File) error { return refuse }}
	s := toyStore(t.TempDir(), pause, &toy{})
	progress := &recorder{}
	_, err := s.Ensure(t.Context(), progress, Pause())
	if !errors.Is(err, refuse) || !strings.Contains(err.Error(), "build pause") {
		t.Errorf("the error names the artifact and keeps its cause: got %v", err)
	}
	want := []string{
		"1 to build, a few seconds in all: pause",
		"begin building pause (1 of 1)",
		"end building pause (1 of 1): compiler says no",
	}
	if diff := cmp.Diff(want, progress.lines); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	if left, _ := filepath.Glob(filepath.Join(s.folder(Pause()), "*")); len(left) != 1 || filepath.Base(left[0]) != lockName {
		t.Errorf("only the lock stays: got %v", left)
	}
	pause.before = nil
	mustEnsure(t, s, Pause())
}

// TestSourcesChangeWhileBuilding would otherwise keep the new content under the key of the old one.
func TestSourcesChangeWhileBuilding(t *testing.T) {
	pause := &toy{seed: "old"}
	pause.before = func(*os.File) error { pause.seed = "new"; return nil }
	s := toyStore(t.TempDir(), pause, &toy{})
	if _, err := s.Ensure(t.Context(), &recorder{}, Pause()); err == nil || !strings.Contains(err.Error(), "changed while it was built") {
		t.Errorf("got %v", err)
	}
}

// childFolder tells this test binary that it is the process to be killed in TestResumeAfterKill.
const childFolder = "ARTIFACT_TEST_KILLED_IN"

// killedHalfway makes pause, and is killed when half of the image is written.
func killedHalfway(dir string) {
	halfway := func(f *os.File) error {
		if _, err := f.WriteString("ima"); err != nil {
			return err
		}
		fmt.Println("halfway")
		select {} // until SIGKILL
	}
	_, err := toyStore(dir, &toy{seed: "pause"}, &toy{seed: "image", before: halfway}).Ensure(context.Background(), &recorder{}, pauseImage)
	fmt.Println("not killed:", err)
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		killedHalfway(dir)
		return
	}
	os.Exit(m.Run())
}

func TestResumeAfterKill(t *testing.T) {
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childFolder+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if line != "halfway\n" {
		t.Fatalf("the child said %q (%v)", line, err)
	}

	var binaries, images int
	s := toyStore(dir, &toy{seed: "pause", made: &binaries}, &toy{seed: "image", made: &images})
	path := mustEnsure(t, s, pauseImage)[pauseImage]
	if binaries != 0 || images != 1 {
		t.Errorf("what was finished stays, what was not is made again: made %d binaries and %d images", binaries, images)
	}
	content, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(content), "image from ") {
		t.Errorf("half an image must never be found: got %q (%v)", content, err)
	}
	if _, err := os.Stat(filepath.Join(s.folder(pauseImage), makingName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what the kill left is gone: got %v", err)
	}
}

// TestTwoBuildOne lets a second caller arrive while the first is in the middle of its making.
func TestTwoBuildOne(t *testing.T) {
	dir := t.TempDir()
	inside, release := make(chan struct{}), make(chan struct{})
	var first, second int
	slow := &toy{seed: "pause", made: &first, before: func(*os.File) error {
		close(inside)
		<-release
		return nil
	}}
	done := make(chan error, 1)
	go func() {
		_, err := toyStore(dir, slow, &toy{}).Ensure(context.Background(), &recorder{}, Pause())
		done <- err
	}()
	<-inside
	waited := &recorder{said: func(line string) {
		if strings.HasPrefix(line, "waiting for another process") {
			close(release)
		}
	}}
	if _, err := toyStore(dir, &toy{seed: "pause", made: &second}, &toy{}).Ensure(t.Context(), waited, Pause()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if first != 1 || second != 0 {
		t.Errorf("one makes, the other waits and finds it: made %d and %d", first, second)
	}
	want := []string{"1 to build, a few seconds in all: pause", "waiting for another process that builds pause"}
	if diff := cmp.Diff(want, waited.lines); diff != "" {
		t.Errorf("who waits is told why (-want +got):\n%s", diff)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path, func() { t.Error("nobody holds it yet") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := lock(ctx, path, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	unlock()
	unlock, err = lock(t.Context(), path, func() { t.Error("it was given back") })
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestOldContentsAreDropped(t *testing.T) {
	pause := &toy{}
	s := toyStore(t.TempDir(), pause, &toy{})
	var paths []string
	for i := range keptKeys + 2 {
		pause.seed = fmt.Sprint("edit ", i)
		paths = append(paths, mustEnsure(t, s, Pause())[Pause()])
		// Times on disk may be too coarse to tell two edits apart.
		used := time.Unix(int64(i), 0)
		if err := os.Chtimes(filepath.Dir(paths[i]), used, used); err != nil {
			t.Fatal(err)
		}
	}
	for i, path := range paths {
		_, err := os.Stat(path)
		if kept := i >= 2; kept != (err == nil) {
			t.Errorf("the %d used last are kept: edit %d: %v", keptKeys, i, err)
		}
	}
}

func TestPreflight(t *testing.T) {
	fails := func(remedy string) need { return need{remedy, func() bool { return false }} }
	compiler, downloader := fails("no compiler: install one"), fails("no downloader: install one")
	for name, tc := range map[string]struct {
		reason       string
		reads, tools []need
		present      bool
		want         string
	}{
		"nothing missing": {
			reason: "a host with everything hears nothing",
		},
		"all at once": {
			reason: "who has to install two things wants to know of both, each once",
			tools:  []need{downloader, compiler, downloader},
			want:   "no downloader: install one\nno compiler: install one",
		},
		"what decides the content": {
			reason: "is needed even to know whether the artifact is there, so nothing else is looked at before",
			reads:  []need{compiler}, tools: []need{downloader},
			want: "no compiler: install one",
		},
		"already made": {
			reason: "what the store holds needs no tool",
			tools:  []need{downloader}, present: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := toyStore(t.TempDir(), &toy{seed: "pause"}, &toy{})
			if tc.present {
				mustEnsure(t, s, Pause())
			}
			plain := s.recipes
			s.recipes = func(a Artifact) (recipe, error) {
				r, err := plain(a)
				r.reads, r.tools = tc.reads, tc.tools
				return r, err
			}
			for verb, err := range map[string]error{"Preflight": s.Preflight(t.Context(), Pause()), "Ensure": ensureError(s, Pause())} {
				got := ""
				if err != nil {
					got = err.Error()
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("%s: %s (-want +got):\n%s", verb, tc.reason, diff)
				}
			}
		})
	}
}

func ensureError(s *Store, want ...Artifact) error {
	_, err := s.Ensure(context.Background(), &recorder{}, want...)
	return err
}

func TestExpect(t *testing.T) {
	s := toyStore(t.TempDir(), &toy{}, &toy{})
	step := step{Kube("1.34.4"), recipe{estimate: 6 * time.Minute}}
	if got := s.expect(step); got != 6*time.Minute {
		t.Errorf("before anything was measured the estimate holds: got %s", got)
	}
	if err := os.MkdirAll(s.folder(step.artifact), 0o755); err != nil {
		t.Fatal(err)
	}
	s.remember(step, 41*time.Second)
	if got := s.expect(step); got != 41*time.Second {
		t.Errorf("what was measured here is better: got %s", got)
	}
	want := "1 to build, about 40 s in all: kube-1.34.4 about 40 s"
	if diff := cmp.Diff(want, s.announcement(oneStep(step))); diff != "" {
		t.Errorf("announcement (-want +got):\n%s", diff)
	}
	if err := os.WriteFile(s.tookFile(step), []byte("garbage"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := s.expect(step); got != 6*time.Minute {
		t.Errorf("a broken note is no note: got %s", got)
	}
}

func TestAbout(t *testing.T) {
	for in, want := range map[time.Duration]string{
		time.Second:       "a few seconds",
		12 * time.Second:  "about 10 s",
		89 * time.Second:  "about 90 s",
		90 * time.Second:  "about 2 min",
		390 * time.Second: "about 7 min",
	} {
		if got := about(in); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

func oneStep(s step) []step { return []step{s} }
