package main

import "html/template"

// layout is the one template of all pages. It needs no script and no other file.
var layout = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}{{if ne .Title "npcnix"}} · npcnix{{end}}</title>
<style>
:root { color-scheme: light dark; --line: #8884; }
body { margin: 0; font: 16px/1.55 system-ui, sans-serif; display: grid; grid-template-columns: 17rem minmax(0, 1fr); }
nav { padding: 1.5rem; border-right: 1px solid var(--line); height: 100vh; overflow: auto; position: sticky; top: 0; box-sizing: border-box; font-size: .9rem; }
nav h2 { font-size: .8rem; margin: 1.2rem 0 .3rem; text-transform: uppercase; letter-spacing: .05em; opacity: .7; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav a { display: block; padding: .1rem 0; text-decoration: none; }
nav a[aria-current] { font-weight: 600; }
main { padding: 1.5rem 2.5rem 4rem; max-width: 54rem; box-sizing: border-box; width: 100%; }
pre, table { overflow-x: auto; display: block; }
pre { padding: .8rem 1rem; background: #8881; border-radius: .4rem; font-size: .85rem; line-height: 1.45; }
code { font-family: ui-monospace, monospace; font-size: .9em; }
pre code { font-size: 1em; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .9rem .35rem 0; text-align: left; vertical-align: top; }
footer { display: flex; justify-content: space-between; gap: 2rem; margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); }
@media (max-width: 50rem) { body { display: block; } nav { height: auto; position: static; border: 0; border-bottom: 1px solid var(--line); } main { padding: 1.5rem; } }
</style>
</head>
<body>
<nav>{{range .Menu}}
<h2>{{.Title}}</h2>
<ul>{{range .Entries}}
<li><a href="{{.Address}}"{{if .Here}} aria-current="page"{{end}}>{{.Title}}</a></li>{{end}}
</ul>{{end}}
</nav>
<main>
{{.Body}}
<footer><span>{{with .Previous}}← <a href="{{.Address}}">{{.Title}}</a>{{end}}</span><span>{{with .Next}}<a href="{{.Address}}">{{.Title}}</a> →{{end}}</span></footer>
</main>
</body>
</html>
`))
