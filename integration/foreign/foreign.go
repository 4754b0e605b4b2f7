// Package foreign has the text that tests feed through what is printed.
package foreign

import (
	"reflect"
	"strings"
	"time"
	"unicode"
)

// Text has every control and format character of Unicode, the separators of lines and paragraphs, and what is private
// or broken.
func Text() string {
	var b strings.Builder
	b.WriteString("x")
	add := func(low, high, stride rune) {
		for c := low; c <= min(high, low+200*stride); c += stride { // only the private ranges are longer
			b.WriteRune(c)
		}
	}
	for _, table := range []*unicode.RangeTable{unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co} {
		for _, r := range table.R16 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
		for _, r := range table.R32 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
	}
	b.WriteString("\x80\x9b\xc2y")
	return b.String()
}

// Fill makes every text in v hostile. A list and a map get one element.
func Fill(v any) { fill(reflect.ValueOf(v).Elem(), Text()) }

func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		fill(v.Elem(), text)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), text)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), text)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, text)
		fill(value, text)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString(text)
	}
}

// Leak returns a character of what was printed that is not to be printed but for line breaks, if there is one.
func Leak(printed string) (leak rune, leaks bool) {
	for _, r := range printed {
		if r != '\n' && !unicode.IsPrint(r) {
			return r, true
		}
	}
	return 0, false
}
