package settings

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// field is a Setting and where it lives.
type field struct {
	Setting
	goName   string
	index    []int
	min      string
	limits   string
	unset    string
	fromFile bool
}

// fieldsOf lists the settings of a struct in the order of their declaration,
// embedded structs included.
func fieldsOf(into any) ([]field, error) {
	t := reflect.TypeOf(into)
	if t == nil || t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("settings: %T is not a pointer to a struct", into)
	}
	var fields []field
	group := ""
	for _, sf := range reflect.VisibleFields(t.Elem()) {
		if sf.Tag.Get("env") == "" {
			continue
		}
		f, err := fieldOf(sf)
		if err != nil {
			return nil, err
		}
		if f.Group == "" {
			f.Group = group
		}
		group = f.Group
		fields = append(fields, f)
	}
	return fields, nil
}

func fieldOf(sf reflect.StructField) (field, error) {
	tag := sf.Tag.Get
	f := field{goName: sf.Name, index: sf.Index, min: tag("min"), limits: tag("range"), unset: tag("unset")}
	f.Setting = Setting{
		Name: tag("env"), Default: tag("envDefault"), Doc: tag("doc"), Group: tag("group"),
		Required: tag("required") == "true", Secret: tag("secret") == "true", Reload: tag("reload") == "true", First: tag("first") == "true",
	}
	if tag("alias") != "" {
		f.Aliases = strings.Split(tag("alias"), ",")
	}
	if tag("oneof") != "" {
		f.OneOf = strings.Split(tag("oneof"), "|")
	}
	f.Type = typeName(sf.Type, f.OneOf)
	switch {
	case f.Doc == "":
		return f, fmt.Errorf("settings: field %s has no doc tag", sf.Name)
	case f.Secret != (sf.Type == reflect.TypeFor[Secret]()):
		return f, fmt.Errorf("settings: field %s: the secret tag and the type Secret belong together", sf.Name)
	case f.Type == "":
		return f, fmt.Errorf("settings: field %s has a type that is not supported: %s", sf.Name, sf.Type)
	}
	return f, nil
}

// typeName says what to write into a variable of type t, for help texts.
func typeName(t reflect.Type, oneOf []string) string {
	if len(oneOf) > 0 {
		return "one of " + strings.Join(oneOf, ", ")
	}
	if named, ok := reflect.Zero(t).Interface().(interface{ SettingType() string }); ok {
		return named.SettingType()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint64:
		return "number"
	}
	return ""
}

// judge holds a parsed value to the field's oneof, range and min tags.
func (f field) judge(v reflect.Value, l *load) error {
	if s, ok := v.Addr().Interface().(*Secret); ok {
		s.fromFile = f.fromFile
		return nil
	}
	if len(f.OneOf) > 0 && !v.IsZero() && !slices.Contains(f.OneOf, v.String()) {
		return fmt.Errorf("%s: must be %s", f.Name, f.Type)
	}
	if f.limits != "" {
		low, high := parseRange(f.limits)
		if n := v.Int() / unit(v); n < low || n > high {
			return fmt.Errorf("%s: must be a whole number from %d to %d", f.Name, low, high)
		}
	}
	f.raise(v, l)
	return nil
}

// raise lifts a number that was set below the field's minimum.
func (f field) raise(v reflect.Value, l *load) {
	if f.min == "" || l.values[f.Name] == "" {
		return
	}
	low, _ := strconv.ParseInt(f.min, 10, 64)
	if v.Int() < low*unit(v) {
		l.warn("%s is below its minimum: using %s", f.Name, f.min)
		v.SetInt(low * unit(v))
	}
}

// unit is what one counts for in a field: tags are written in milliseconds.
func unit(v reflect.Value) int64 {
	if v.Type() == reflect.TypeFor[Millis]() {
		return int64(time.Millisecond)
	}
	return 1
}

// advice turns a parse error into what to do. It never shows the value: a
// secret pasted into the wrong variable must not reach the log.
func (f field) advice(value string, err error) string {
	switch {
	case strings.HasSuffix(f.Name, "_PORT") && isLink(value):
		service := strings.ToLower(strings.ReplaceAll(strings.TrimSuffix(f.Name, "_PORT"), "_", "-"))
		return fmt.Sprintf("was set by Kubernetes for a service named %s: rename the service, or set enableServiceLinks: false in the pod", service)
	case errors.As(err, new(*strconv.NumError)): // its text quotes the value
		if f.Type == "number" {
			return "must be a whole number"
		}
		return "must be " + f.Type
	}
	return err.Error()
}

func parseRange(limits string) (low, high int64) {
	from, to, _ := strings.Cut(limits, "-")
	low, _ = strconv.ParseInt(from, 10, 64)
	high, _ = strconv.ParseInt(to, 10, 64)
	return low, high
}
