// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// style is how a text looks on a terminal that has colours. It never carries a meaning of its own.
type style string

// The styles, as parameters of ANSI's SGR.
const (
	plain style = ""
	bold  style = "1"
	dim   style = "2"
	good  style = "32"
	bad   style = "31"
	warn  style = "33"
)

// cell is a piece of text on a page.
type cell struct {
	text  string
	style style
}

func say(text string) cell { return cell{text: text} }

// page collects text for a terminal, a pipe or a file.
type page struct {
	lines []string
	// width of the terminal in columns; 0: lines are not broken.
	width int
	// height of the terminal in lines; 0: no terminal.
	height int
	// colours says that styles are shown.
	colours bool
}

// newPage makes a page that suits where it is written to.
func newPage(out io.Writer) *page {
	p := &page{}
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return p
	}
	if width, height, err := term.GetSize(int(file.Fd())); err == nil {
		p.width, p.height = width, height
	}
	p.colours = coloured(os.Getenv)
	return p
}

// coloured says whether a terminal may be given colours.
func coloured(env func(string) string) bool {
	return env("NO_COLOR") == "" && env("TERM") != "dumb" && env("TERM") != ""
}

func (p *page) String() string {
	if len(p.lines) == 0 {
		return ""
	}
	return strings.Join(p.lines, "\n") + "\n"
}

// line adds a line, as it is.
func (p *page) line(cells ...cell) {
	var b strings.Builder
	for _, c := range cells {
		b.WriteString(p.paint(c))
	}
	p.lines = append(p.lines, strings.TrimRight(b.String(), " "))
}

func (p *page) paint(c cell) string {
	if !p.colours || c.style == plain || c.text == "" {
		return c.text
	}
	return "\x1b[" + string(c.style) + "m" + c.text + "\x1b[0m"
}

// leastColumn is how narrow the last column of a row gets: narrower terminals break lines by themselves.
const leastColumn = 20

// row adds cells in columns of given widths; what is too long for the terminal goes on below its last column. Lead begins the first
// line, and rest those after it.
func (p *page) row(lead, rest string, widths []int, cells []cell) {
	var head strings.Builder
	column := utf8.RuneCountInString(lead)
	head.WriteString(p.paint(cell{lead, dim}))
	for i, c := range cells[:max(0, len(cells)-1)] {
		head.WriteString(p.paint(c))
		if i < len(widths) {
			gap := widths[i] - utf8.RuneCountInString(c.text) + 2
			head.WriteString(strings.Repeat(" ", max(0, gap)))
			column += widths[i] + 2
		}
	}
	if len(cells) == 0 {
		p.lines = append(p.lines, strings.TrimRight(head.String(), " "))
		return
	}
	last := cells[len(cells)-1]
	parts := []string{last.text}
	if p.width > 0 {
		parts = wrap(last.text, max(leastColumn, p.width-column))
	}
	p.lines = append(p.lines, strings.TrimRight(head.String()+p.paint(cell{parts[0], last.style}), " "))
	indent := strings.Repeat(" ", max(0, column-utf8.RuneCountInString(rest)))
	for _, part := range parts[1:] {
		p.lines = append(p.lines, p.paint(cell{rest, dim})+indent+p.paint(cell{part, last.style}))
	}
}

// wrap breaks a text at blanks.
func wrap(text string, width int) []string {
	var out []string
	now := ""
	for word := range strings.FieldsSeq(text) {
		if now != "" && utf8.RuneCountInString(now)+1+utf8.RuneCountInString(word) > width {
			out = append(out, now)
			now = ""
		}
		if now != "" {
			now += " "
		}
		now += word
	}
	return append(out, now)
}

// widthsOf are the widths of the columns of rows, all but the last.
func widthsOf(rows [][]cell) []int {
	var out []int
	for _, cells := range rows {
		for i, c := range cells[:max(0, len(cells)-1)] {
			if i == len(out) {
				out = append(out, 0)
			}
			out[i] = max(out[i], utf8.RuneCountInString(c.text))
		}
	}
	return out
}

// table adds a heading and rows.
func (p *page) table(heading []string, rows [][]cell) {
	head := make([]cell, len(heading))
	for i, h := range heading {
		head[i] = cell{h, bold}
	}
	all := append([][]cell{head}, rows...)
	widths := widthsOf(all)
	for _, cells := range all {
		p.row("", "", widths, cells)
	}
}

// branch is a row of a tree with what is below it.
type branch struct {
	cells []cell
	below []*branch
}

// add adds a branch below and returns it.
func (b *branch) add(cells ...cell) *branch {
	next := &branch{cells: cells}
	b.below = append(b.below, next)
	return next
}

// tree adds branches; the columns of brothers are aligned.
func (p *page) tree(branches []*branch, before string) {
	rows := make([][]cell, len(branches))
	for i, b := range branches {
		rows[i] = b.cells
	}
	widths := widthsOf(rows)
	for i, b := range branches {
		lead, rest := before+"├─ ", before+"│  "
		if i == len(branches)-1 {
			lead, rest = before+"└─ ", before+"   "
		}
		hanging := rest
		if len(b.below) > 0 {
			hanging += "│"
		}
		p.row(lead, hanging, widths, b.cells)
		p.tree(b.below, rest)
	}
}
