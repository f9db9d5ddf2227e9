package main

import (
	"context"
	"errors"
	"time"

	client "github.com/apache/rocketmq-clients/golang/v5"
)

// hold takes messages one by one and keeps them until it is given no more; then it settles the first of
// them and looks for what that sets free.
func hold(args *arguments) error {
	const await, lease = 6 * time.Second, time.Minute
	consumer, err := startSimpleConsumer(args, await)
	if err != nil {
		return inStep("start", err)
	}
	var first *client.MessageView
	for {
		messages, err := receive(consumer, 1, lease)
		if err != nil {
			return inStep("held", err)
		}
		if len(messages) == 0 {
			break
		}
		if first == nil {
			first = messages[0]
		}
		success("held", fields{"message": messageFields(messages[0])})
	}
	if first == nil {
		return inStep("held", errors.New("nothing was received"))
	}
	success("empty", nil)
	if err := consumer.Ack(context.Background(), first); err != nil {
		return inStep("ack", err)
	}
	success("ack", fields{"id": first.GetMessageId()})
	messages, err := receive(consumer, 1, lease)
	if err != nil {
		return inStep("freed", err)
	}
	for _, message := range messages {
		success("freed", fields{"message": messageFields(message)})
	}
	if err := consumer.GracefulStop(); err != nil {
		return inStep("stop", err)
	}
	success("end", nil)
	return nil
}
