package main

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	client "github.com/apache/rocketmq-clients/golang/v5"
)

// push runs a push consumer whose listener fails the first attempt and takes the second.
func push(args *arguments) error {
	producer, err := startProducer(args)
	if err != nil {
		return inStep("start", err)
	}
	var calls atomic.Int32
	taken := make(chan struct{}, 1)
	consumer, err := startPushConsumer(args, func(message *client.MessageView) client.ConsumerResult {
		first := calls.Add(1) == 1
		success("attempt", fields{"message": messageFields(message)})
		if first {
			return client.FAILURE
		}
		select {
		case taken <- struct{}{}:
		default:
		}
		return client.SUCCESS
	})
	if err != nil {
		return inStep("consumer", err)
	}
	id, err := sendOne(producer, numbered(args.topic(), args.prefix(), 0))
	if err != nil {
		return inStep("send", err)
	}
	success("send", fields{"id": id})
	timeout := args.seconds("timeout_s", 60)
	select {
	case <-taken:
	case <-time.After(timeout):
		return inStep("attempt", fmt.Errorf("the listener was called %d times in %s", calls.Load(), timeout))
	}
	if err := errors.Join(consumer.GracefulStop(), producer.GracefulStop()); err != nil {
		return inStep("stop", err)
	}
	success("end", nil)
	return nil
}
