package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// stage is what one FROM scratch of the Dockerfile says.
type stage struct {
	Name   string
	Copies []copying
	Config config
}

// copying is one COPY: a folder of the stage, and where it goes.
type copying struct {
	From, To string
	UID, GID int
	Mode     int64 // of folder and files; 0 leaves them theirs
}

// config is the part of an image that tells how to run it: OCI's, and the
// health check that Docker has beside it.
type config struct {
	User         string              `json:"User"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint"`
	Cmd          []string            `json:"Cmd,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	Healthcheck  *healthcheck        `json:"Healthcheck,omitempty"`
}

type healthcheck struct {
	Test        []string
	Interval    time.Duration `json:",omitempty"`
	Timeout     time.Duration `json:",omitempty"`
	StartPeriod time.Duration `json:",omitempty"`
	Retries     int           `json:",omitempty"`
}

// parseDockerfile reads the part of the language that our Dockerfile uses, and
// refuses the rest by name: what is not understood must not be left out of an
// image quietly. Commands are JSON arrays, since there is no shell.
func parseDockerfile(text string, args map[string]string) ([]stage, error) {
	var stages []stage
	known := map[string]string{}
	for number, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		instruction, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		fail := func(format string, a ...any) ([]stage, error) {
			return nil, fmt.Errorf("line %d: %s: %s", number+1, instruction, fmt.Sprintf(format, a...))
		}
		if instruction == "FROM" {
			name, ok := strings.CutPrefix(rest, "scratch AS ")
			if !ok {
				return fail("must be: FROM scratch AS name")
			}
			stages = append(stages, stage{Name: name})
			known = map[string]string{}
			continue
		}
		if len(stages) == 0 {
			return fail("comes before FROM")
		}
		s := &stages[len(stages)-1]
		if err := s.apply(instruction, rest, args, known); err != nil {
			return fail("%v", err)
		}
	}
	for _, s := range stages {
		if len(s.Copies) == 0 || len(s.Config.Entrypoint) == 0 || s.Config.User == "" {
			return nil, fmt.Errorf("stage %s: needs COPY, USER and ENTRYPOINT", s.Name)
		}
	}
	if len(stages) == 0 {
		return nil, fmt.Errorf("line 1: no FROM")
	}
	return stages, nil
}

func (s *stage) apply(instruction, rest string, args, known map[string]string) error {
	c := &s.Config
	switch instruction {
	case "ARG":
		name, value, _ := strings.Cut(rest, "=")
		if given, ok := args[name]; ok {
			value = given
		}
		known[name] = value
	case "LABEL", "ENV":
		name, value, ok := strings.Cut(rest, "=")
		if unquoted, err := strconv.Unquote(value); err == nil {
			value = unquoted
		} else if strings.ContainsAny(value, `"' `) {
			ok = false
		}
		if !ok {
			return fmt.Errorf(`write one name=value or name="value" on a line`)
		}
		var unknown string
		value = os.Expand(value, func(name string) string {
			text, ok := known[name]
			if !ok {
				unknown = name
			}
			return text
		})
		if unknown != "" {
			return fmt.Errorf("%s is no ARG of this stage", unknown)
		}
		if instruction == "ENV" {
			c.Env = append(c.Env, name+"="+value)
			break
		}
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[name] = value
	case "COPY":
		return s.copy(rest)
	case "USER":
		if _, _, err := ids(rest); err != nil {
			return err
		}
		c.User = rest
	case "WORKDIR":
		c.WorkingDir = rest
	case "EXPOSE":
		c.ExposedPorts = map[string]struct{}{}
		for _, port := range strings.Fields(rest) {
			c.ExposedPorts[port] = struct{}{}
		}
	case "ENTRYPOINT":
		return command(rest, &c.Entrypoint)
	case "CMD":
		return command(rest, &c.Cmd)
	case "HEALTHCHECK":
		return c.health(rest)
	default:
		return fmt.Errorf("is not among what this builder knows: ARG, CMD, COPY, ENTRYPOINT, ENV, EXPOSE, FROM, HEALTHCHECK, LABEL, USER, WORKDIR")
	}
	return nil
}

func (s *stage) copy(rest string) error {
	var c copying
	var paths []string
	for _, word := range strings.Fields(rest) {
		flag, value, isFlag := strings.Cut(word, "=")
		var err error
		switch {
		case !strings.HasPrefix(word, "--"):
			paths = append(paths, word)
		case isFlag && flag == "--chown":
			c.UID, c.GID, err = ids(value)
		case isFlag && flag == "--chmod":
			c.Mode, err = strconv.ParseInt(value, 8, 32)
		default:
			return fmt.Errorf("%s is not among --chown and --chmod", word)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	if len(paths) != 2 || !strings.HasSuffix(paths[0], "/") || !strings.HasPrefix(paths[1], "/") || !strings.HasSuffix(paths[1], "/") {
		return fmt.Errorf("must name one folder and where it goes: folder/ /path/")
	}
	c.From, c.To = strings.TrimSuffix(paths[0], "/"), strings.Trim(paths[1], "/")
	s.Copies = append(s.Copies, c)
	return nil
}

func (c *config) health(rest string) error {
	flags, cmd, ok := strings.Cut(rest, "CMD ")
	if !ok {
		return fmt.Errorf("has no CMD")
	}
	h := &healthcheck{}
	for _, word := range strings.Fields(flags) {
		flag, value, _ := strings.Cut(word, "=")
		var err error
		switch flag {
		case "--interval":
			h.Interval, err = time.ParseDuration(value)
		case "--timeout":
			h.Timeout, err = time.ParseDuration(value)
		case "--start-period":
			h.StartPeriod, err = time.ParseDuration(value)
		case "--retries":
			h.Retries, err = strconv.Atoi(value)
		default:
			return fmt.Errorf("%s is not among --interval, --timeout, --start-period and --retries", flag)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	var test []string
	if err := command(cmd, &test); err != nil {
		return err
	}
	h.Test = append([]string{"CMD"}, test...)
	c.Healthcheck = h
	return nil
}

func command(text string, into *[]string) error {
	if err := json.Unmarshal([]byte(text), into); err != nil || len(*into) == 0 {
		return fmt.Errorf(`must be a JSON array such as ["/program", "argument"]: there is no shell that would read a text`)
	}
	return nil
}

// ids reads a user and a group by number: a name would have to be looked up in
// the image.
func ids(text string) (uid, gid int, err error) {
	u, g, _ := strings.Cut(text, ":")
	uid, err = strconv.Atoi(u)
	if err == nil {
		gid, err = strconv.Atoi(g)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%q must be two numbers, user:group", text)
	}
	return uid, gid, nil
}
