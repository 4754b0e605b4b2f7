package main

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// page is a page of the site.
type page struct {
	file    string // of the repository
	title   string
	source  []byte
	tree    ast.Node
	anchors []string
}

// site is all pages, before they are written.
type site struct {
	repository, source string
	pages              []*page
}

var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()))

// address is where the page of a file stands in the site.
func address(file string) string {
	if file == "README.md" {
		return "index.html"
	}
	if dir, isReadme := strings.CutSuffix(file, "/README.md"); isReadme {
		return dir + ".html"
	}

	return strings.TrimSuffix(file, ".md") + ".html"
}

// read reads and parses all pages. commands is the page of the program's commands.
func (s *site) read(commands string) error {
	for _, part := range sections {
		for _, file := range part.pages {
			source := []byte(commands)
			if file != commandPage {
				var err error
				if source, err = os.ReadFile(filepath.Join(s.repository, file)); err != nil {
					return err
				}
			}
			s.pages = append(s.pages, parse(file, source))
		}
	}

	var errs []error
	for _, p := range s.pages {
		errs = append(errs, s.link(p))
	}

	return errors.Join(errs...)
}

func parse(file string, source []byte) *page {
	ids := &anchors{}
	p := &page{file: file, source: source}
	p.tree = markdown.Parser().Parse(text.NewReader(source), parser.WithContext(parser.NewContext(parser.WithIDs(ids))))
	p.anchors = ids.given
	p.title, _, _ = strings.Cut(string(source), "\n")
	p.title = strings.ReplaceAll(strings.TrimLeft(p.title, "# "), "`", "")

	return p
}

// anchors names headings as GitHub does, so that links work there and here.
type anchors struct{ given []string }

var unnamed = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

func (a *anchors) Generate(heading []byte, _ ast.NodeKind) []byte {
	name := strings.ReplaceAll(unnamed.ReplaceAllString(strings.ToLower(string(heading)), ""), " ", "-")
	unique := name
	for n := 1; slices.Contains(a.given, unique); n++ {
		unique = fmt.Sprintf("%s-%d", name, n)
	}
	a.given = append(a.given, unique)

	return []byte(unique)
}

func (a *anchors) Put(name []byte) { a.given = append(a.given, string(name)) }

// link points the links and pictures of a page to where they lead in the site, or in the repository.
func (s *site) link(p *page) error {
	var errs []error
	err := ast.Walk(p.tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		var to *[]byte
		switch n := n.(type) {
		case *ast.Link:
			to = &n.Destination
		case *ast.Image:
			to = &n.Destination
		default:
			return ast.WalkContinue, nil
		}
		target, err := s.target(p, string(*to))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: the link %s: %w", p.file, *to, err))
		}
		*to = []byte(target)
		return ast.WalkContinue, nil
	})

	return errors.Join(append(errs, err)...)
}

// target is what a link of a page becomes.
func (s *site) target(p *page, link string) (string, error) {
	if strings.Contains(link, "://") {
		return link, nil
	}
	to, anchor, hasAnchor := strings.Cut(link, "#")
	file := p.file
	if to != "" {
		file = path.Join(path.Dir(p.file), to)
	}
	if i := slices.IndexFunc(s.pages, func(q *page) bool { return q.file == file || q.file == path.Join(file, "README.md") }); i >= 0 {
		if !hasAnchor {
			return relative(p.file, address(s.pages[i].file)), nil
		}
		if !slices.Contains(s.pages[i].anchors, anchor) {
			return "", errors.New("there is no such heading")
		}
		return relative(p.file, address(s.pages[i].file)) + "#" + anchor, nil
	}
	if slices.Contains(assets, file) {
		return relative(p.file, file), nil
	}
	if _, err := os.Stat(filepath.Join(s.repository, file)); err != nil {
		return "", err
	}

	return s.source + "/" + file, nil
}

// relative is the address of a target from the page of a file.
func relative(from, to string) string {
	return strings.Repeat("../", strings.Count(address(from), "/")) + to
}

// write writes the site into a directory.
func (s *site) write(dir string) error {
	if err := deletePages(dir); err != nil {
		return err
	}
	for i, p := range s.pages {
		var body, whole bytes.Buffer
		if err := markdown.Renderer().Render(&body, p.source, p.tree); err != nil {
			return fmt.Errorf("%s: %w", p.file, err)
		}
		if err := layout.Execute(&whole, s.view(i, body.String())); err != nil {
			return fmt.Errorf("%s: %w", p.file, err)
		}
		if err := put(filepath.Join(dir, address(p.file)), whole.Bytes()); err != nil {
			return err
		}
	}
	for _, file := range assets {
		data, err := os.ReadFile(filepath.Join(s.repository, file))
		if err != nil {
			return err
		}
		if err := put(filepath.Join(dir, file), data); err != nil {
			return err
		}
	}

	return nil
}

// deletePages deletes the pages of an earlier run. What else is in the directory stays.
func deletePages(dir string) error {
	return filepath.WalkDir(dir, func(file string, d os.DirEntry, err error) error {
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil || d.IsDir() || filepath.Ext(file) != ".html":
			return err
		}
		return os.Remove(file)
	})
}

func put(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}

	return os.WriteFile(file, data, 0o644)
}

// entry is a line of the menu.
type entry struct {
	Title, Address string
	Here           bool
}

type menu struct {
	Title   string
	Entries []entry
}

// view is what the layout shows.
type view struct {
	Title          string
	Menu           []menu
	Body           template.HTML
	Previous, Next *entry
}

func (s *site) view(at int, body string) view {
	here := s.pages[at]
	v := view{Title: here.title, Body: template.HTML(body)} // of the repository's own pages
	n := 0
	for _, part := range sections {
		m := menu{Title: part.title}
		for range part.pages {
			e := entry{s.pages[n].title, relative(here.file, address(s.pages[n].file)), n == at}
			m.Entries = append(m.Entries, e)
			switch n {
			case at - 1:
				v.Previous = &e
			case at + 1:
				v.Next = &e
			}
			n++
		}
		v.Menu = append(v.Menu, m)
	}

	return v
}
