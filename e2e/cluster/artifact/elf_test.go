// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writeELF writes the least ELF file that a loader would read dependencies from.
func writeELF(t *testing.T, path, interpreter string, needed ...string) {
	t.Helper()
	names := []byte{0}
	var dynamic bytes.Buffer
	for _, n := range needed {
		entry := elf.Dyn64{Tag: int64(elf.DT_NEEDED), Val: uint64(len(names))}
		if err := binary.Write(&dynamic, binary.LittleEndian, entry); err != nil {
			t.Fatal(err)
		}
		names = append(append(names, n...), 0)
	}
	dynamic.Write(make([]byte, 16)) // DT_NULL
	interp := append([]byte(interpreter), 0)

	const header, program, section = 64, 56, 64
	interpAt := uint64(header + program)
	namesAt := interpAt + uint64(len(interp))
	dynamicAt := namesAt + uint64(len(names))
	sectionsAt := dynamicAt + uint64(dynamic.Len())
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: header, Shoff: sectionsAt,
		Ehsize: header, Phentsize: program, Phnum: 1, Shentsize: section, Shnum: 3,
	}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	p := elf.Prog64{Type: uint32(elf.PT_NULL)}
	if interpreter != "" {
		p = elf.Prog64{Type: uint32(elf.PT_INTERP), Off: interpAt, Filesz: uint64(len(interp))}
	}
	sections := []elf.Section64{
		{},
		{Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names))},
		{Type: uint32(elf.SHT_DYNAMIC), Off: dynamicAt, Size: uint64(dynamic.Len()), Link: 1, Entsize: 16},
	}
	h.Shstrndx = 1
	var out bytes.Buffer
	for _, part := range []any{h, p, interp, names, dynamic.Bytes(), sections} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, out.Bytes(), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestClosure(t *testing.T) {
	root := t.TempDir()
	early, late := filepath.Join(root, "early"), filepath.Join(root, "late")
	for _, dir := range []string{early, late} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	loader := filepath.Join(root, "ld.so")
	writeELF(t, loader, "")
	writeELF(t, filepath.Join(early, "libc.so"), loader)
	writeELF(t, filepath.Join(late, "libc.so"), loader)
	writeELF(t, filepath.Join(late, "libm.so"), "", "libc.so", "libm.so") // a circle ends
	writeELF(t, filepath.Join(late, "libnft.so"), "", "libmnl.so")
	writeELF(t, filepath.Join(late, "libmnl.so"), "", "libc.so")
	tool, plugin, static := filepath.Join(root, "iptables"), filepath.Join(root, "statistic.so"), filepath.Join(root, "static")
	writeELF(t, tool, loader, "libnft.so")
	writeELF(t, plugin, "", "libm.so")
	writeELF(t, static, "")
	broken := filepath.Join(root, "broken")
	writeELF(t, broken, loader, "libgone.so")

	for name, tc := range map[string]struct {
		reason string
		files  []string
		want   []string
		err    string
	}{
		"static": {
			reason: "a static program needs nothing",
			files:  []string{static},
			want:   nil,
		},
		"program": {
			reason: "libraries of libraries and the interpreter count, and the first folder wins",
			files:  []string{tool},
			want:   []string{"early/libc.so", "late/libmnl.so", "late/libnft.so", "ld.so"},
		},
		"program and plugin": {
			reason: "nothing in the program names the plugin's libm",
			files:  []string{tool, plugin},
			want:   []string{"early/libc.so", "late/libm.so", "late/libmnl.so", "late/libnft.so", "ld.so"},
		},
		"missing": {
			reason: "an image without a library would fail in the cluster, where nobody sees why",
			files:  []string{broken},
			err:    broken + " needs the library libgone.so, which is in none of " + early + ", " + late,
		},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := closure([]string{early, late}, tc.files...)
			message := ""
			if err != nil {
				message = err.Error()
			}
			var got []string
			for _, f := range found {
				got = append(got, strings.TrimPrefix(f, root+"/"))
			}
			if diff := cmp.Diff(tc.err, message); diff != "" {
				t.Errorf("%s: error (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
	if _, err := closure(nil, filepath.Join(root, "early")); err == nil {
		t.Error("what is no ELF file is an error")
	}
}
