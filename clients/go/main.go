// Command program drives the official Go client: program <endpoint> <scenario> [key=value ...].
package main

import (
	"fmt"
	"os"
)

var scenarios = map[string]func(*arguments) error{
	"basic":       basic,
	"unknown":     unknown,
	"send":        sendAll,
	"read":        readAll,
	"listen":      listen,
	"listen-lite": listenLite,
	"hold":        hold,
	"retry":       retry,
	"recall":      recall,
	"transaction": transact,
	"survive":     survive,
}

func main() {
	args, err := parseArguments(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	run, known := scenarios[args.scenario]
	if !known {
		fmt.Fprintln(os.Stderr, "there is no scenario named", args.scenario)
		os.Exit(2)
	}
	chooseTLS(args)
	if err := run(args); err != nil {
		failure(err)
		os.Exit(1)
	}
}
