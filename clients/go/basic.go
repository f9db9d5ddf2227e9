package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	client "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	shortLease = 10 * time.Second
	longLease  = 60 * time.Second
	batch      = 16
)

// basic sends one message there and back through a producer and a simple consumer, every call once.
func basic(args *arguments) error {
	started := time.Now()
	producer, err := startProducer(args)
	if err != nil {
		return inStep("start", err)
	}
	success("start", fields{"ms": time.Since(started).Milliseconds()})
	if err := basicSend(args, producer); err != nil {
		return err
	}
	consumer, err := startSimpleConsumer(args, args.seconds("await_s", 12))
	if err != nil {
		return inStep("consumer", err)
	}
	if err := basicReceive(consumer); err != nil {
		return err
	}
	stopping := time.Now()
	if err := errors.Join(consumer.GracefulStop(), producer.GracefulStop()); err != nil {
		return inStep("stop", err)
	}
	success("stop", fields{"ms": time.Since(stopping).Milliseconds()})
	return nil
}

func basicSend(args *arguments, producer client.Producer) error {
	started := time.Now()
	id, err := sendOne(producer, numbered(args.topic(), args.prefix(), 0))
	if err != nil {
		return inStep("send", err)
	}
	success("send", fields{"id": id, "ms": time.Since(started).Milliseconds()})
	return nil
}

func basicReceive(consumer client.SimpleConsumer) error {
	messages, err := receive(consumer, batch, shortLease)
	if err != nil {
		return inStep("receive", err)
	}
	if len(messages) != 1 {
		return inStep("receive", fmt.Errorf("expected one message, got %d", len(messages)))
	}
	success("receive", fields{"message": messageFields(messages[0])})
	if err := consumer.ChangeInvisibleDuration(messages[0], longLease); err != nil {
		return inStep("extend", err)
	}
	success("extend", nil)
	started := time.Now()
	nothing, err := receive(consumer, batch, shortLease)
	if err != nil {
		return inStep("empty", err)
	}
	success("empty", fields{"ms": time.Since(started).Milliseconds(), "count": len(nothing)})
	if err := consumer.Ack(context.Background(), messages[0]); err != nil {
		return inStep("ack", err)
	}
	success("ack", nil)
	return nil
}
