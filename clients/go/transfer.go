package main

import (
	"context"
	"time"
)

// sendAll is the half of an exchange between languages that sends numbered messages.
func sendAll(args *arguments) error {
	producer, err := startProducer(args)
	if err != nil {
		return inStep("start", err)
	}
	first := args.number("first", 0)
	for number := first; number < first+args.number("count", 1); number++ {
		sent, err := sendInTurn(args, producer, number)
		if err != nil {
			return inStep("sent", err)
		}
		success("sent", sent)
	}
	if err := producer.GracefulStop(); err != nil {
		return inStep("stop", err)
	}
	success("end", nil)
	return nil
}

// readAll is the other half: it takes messages of anybody until there are enough, or the time is over.
func readAll(args *arguments) error {
	consumer, err := startSimpleConsumer(args, 6*time.Second)
	if err != nil {
		return inStep("start", err)
	}
	success("ready", nil)
	deadline := time.Now().Add(args.seconds("timeout_s", 60))
	ids := make(map[string]bool)
	for len(ids) < args.number("expect", 1) && time.Now().Before(deadline) {
		messages, err := receive(consumer, batch, longLease)
		if err != nil {
			return inStep("read", err)
		}
		for _, message := range messages {
			if err := consumer.Ack(context.Background(), message); err != nil {
				return inStep("ack", err)
			}
			ids[message.GetMessageId()] = true
			success("read", fields{"message": messageFields(message)})
		}
	}
	if err := consumer.GracefulStop(); err != nil {
		return inStep("stop", err)
	}
	success("end", fields{"count": len(ids)})
	return nil
}
