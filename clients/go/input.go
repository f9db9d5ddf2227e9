package main

import (
	"bufio"
	"os"
	"strings"
)

// commands calls do with the words of each line of standard input, until one says stop or do fails.
func commands(do func(words []string) error) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() && lines.Text() != "stop" {
		if err := do(strings.Fields(lines.Text())); err != nil {
			return err
		}
	}
	return nil
}

func awaitStop() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() && lines.Text() != "stop" {
	}
}
