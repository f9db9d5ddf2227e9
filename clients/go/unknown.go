package main

import (
	"errors"
	"time"
)

// unknown starts a producer of a topic that does not exist, which must fail at once; the text holds the code.
func unknown(args *arguments) error {
	started := time.Now()
	_, err := startProducer(args)
	if err == nil {
		return inStep("unknown", errors.New("the producer started"))
	}
	success("unknown", fields{"ms": time.Since(started).Milliseconds(), "text": err.Error()})
	return nil
}
