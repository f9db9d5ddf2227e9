package main

import (
	"context"
	"time"
)

// sendNumbered is the half of an exchange between languages that sends numbered messages.
func sendNumbered(args *arguments) error {
	producer, err := startProducer(args)
	if err != nil {
		return inStep("start", err)
	}
	for number := range args.number("count", 1) {
		id, err := sendOne(producer, numbered(args.topic(), args.prefix(), number))
		if err != nil {
			return inStep("sent", err)
		}
		success("sent", fields{"number": number, "id": id})
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
	deadline := time.Now().Add(args.seconds("timeout_s", 60))
	ids := make(map[string]bool)
	for len(ids) < args.number("expect", 1) && time.Now().Before(deadline) {
		messages, err := receive(consumer, longLease)
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
