package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
)

// fields are the parts of a line of output besides the step and its result.
type fields map[string]any

// stepError says which step of a scenario ended with an error.
type stepError struct {
	step string
	err  error
}

func (e *stepError) Error() string { return e.step + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// inStep gives an error the name of the step it ended; nil stays nil.
func inStep(step string, err error) error {
	if err == nil {
		return nil
	}
	return &stepError{step: step, err: err}
}

var outputLock sync.Mutex

// success reports a step that went well.
func success(step string, with fields) {
	line := fields{"step": step, "ok": true}
	for name, value := range with {
		line[name] = value
	}
	printLine(line)
}

// failure reports the step that ended the scenario.
func failure(err error) {
	step := "program"
	var ended *stepError
	if errors.As(err, &ended) {
		step, err = ended.step, ended.err
	}
	printLine(fields{"step": step, "ok": false, "error": err.Error()})
}

func printLine(line fields) {
	text, err := json.Marshal(line)
	if err != nil {
		fmt.Fprintln(os.Stderr, "a step cannot be written as JSON:", err)
		os.Exit(1)
	}
	outputLock.Lock()
	defer outputLock.Unlock()
	fmt.Println(string(text))
}
