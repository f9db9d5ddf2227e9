package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// arguments is the command line: where the server is, what to do, and the settings of that.
type arguments struct {
	endpoint string
	scenario string
	settings map[string]string
}

func parseArguments(words []string) (*arguments, error) {
	if len(words) < 2 {
		return nil, errors.New("usage: <endpoint> <scenario> [key=value ...]")
	}
	settings := make(map[string]string)
	for _, word := range words[2:] {
		key, value, found := strings.Cut(word, "=")
		if !found || key == "" {
			return nil, fmt.Errorf("a setting is written key=value, not %s", word)
		}
		settings[key] = value
	}
	return &arguments{endpoint: words[0], scenario: words[1], settings: settings}, nil
}

// text returns a setting, or what to use otherwise.
func (a *arguments) text(key, otherwise string) string {
	if value, found := a.settings[key]; found {
		return value
	}
	return otherwise
}

// number returns a whole number; text that is none counts as not given.
func (a *arguments) number(key string, otherwise int) int {
	value, err := strconv.Atoi(a.settings[key])
	if err != nil {
		return otherwise
	}
	return value
}

func (a *arguments) seconds(key string, otherwise int) time.Duration {
	return time.Duration(a.number(key, otherwise)) * time.Second
}

// words returns a list written with commas.
func (a *arguments) words(key, otherwise string) []string {
	return strings.Split(a.text(key, otherwise), ",")
}

// turn returns the word of a list whose turn it is at a message; the list begins again at its end.
func (a *arguments) turn(key string, number int, otherwise string) string {
	words := a.words(key, otherwise)
	return words[number%len(words)]
}

// numberInTurn is turn for whole numbers.
func (a *arguments) numberInTurn(key string, number int) (int, error) {
	return strconv.Atoi(a.turn(key, number, ""))
}

func (a *arguments) topic() string  { return a.settings["topic"] }
func (a *arguments) group() string  { return a.settings["group"] }
func (a *arguments) prefix() string { return a.text("prefix", "go") }
