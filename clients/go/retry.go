package main

import (
	"context"
	"errors"
	"time"

	client "github.com/apache/rocketmq-clients/golang/v5"
)

// retry gives a message back soon, takes it again, and acknowledges it.
func retry(args *arguments) error {
	const await, returned = 12 * time.Second, 2 * time.Second
	consumer, err := startSimpleConsumer(args, await)
	if err != nil {
		return inStep("start", err)
	}
	message, err := attempt(consumer)
	if err != nil {
		return inStep("attempt", err)
	}
	if err := consumer.ChangeInvisibleDuration(message, returned); err != nil {
		return inStep("returned", err)
	}
	success("returned", nil)
	if message, err = attempt(consumer); err != nil {
		return inStep("attempt", err)
	}
	if err := consumer.Ack(context.Background(), message); err != nil {
		return inStep("ack", err)
	}
	success("ack", nil)
	if err := consumer.GracefulStop(); err != nil {
		return inStep("stop", err)
	}
	success("end", nil)
	return nil
}

func attempt(consumer client.SimpleConsumer) (*client.MessageView, error) {
	messages, err := receive(consumer, 1, longLease)
	if err != nil {
		return nil, err
	}
	if len(messages) == 0 {
		return nil, errors.New("nothing was received")
	}
	success("attempt", fields{"message": messageFields(messages[0])})
	return messages[0], nil
}
