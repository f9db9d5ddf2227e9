package main

import (
	"fmt"
	"sync/atomic"
	"time"

	client "github.com/apache/rocketmq-clients/golang/v5"
)

// listen runs a push consumer that reports every call of its listener until standard input says stop.
func listen(args *arguments) error {
	consumer, err := startPushConsumer(args, failing(args))
	if err != nil {
		return inStep("start", err)
	}
	success("ready", nil)
	awaitStop()
	return stopListening(consumer)
}

// listenLite does the same for the lite topics in subscribe; a line "unsubscribe <lite topic>" ends one of them.
func listenLite(args *arguments) error {
	consumer, err := startLiteConsumer(args, failing(args))
	if err != nil {
		return inStep("start", err)
	}
	for _, liteTopic := range args.words("subscribe", "") {
		if err := consumer.SubscribeLite(liteTopic); err != nil {
			return inStep("subscribe", err)
		}
	}
	success("ready", nil)
	err = commands(func(words []string) error {
		if len(words) != 2 {
			return fmt.Errorf("not a command: %v", words)
		}
		if err := consumer.UnSubscribeLite(words[1]); err != nil {
			return err
		}
		success("unsubscribed", fields{"lite_topic": words[1]})
		return nil
	})
	if err != nil {
		return inStep("unsubscribed", err)
	}
	return stopListening(consumer)
}

func stopListening(consumer client.PushConsumer) error {
	if err := consumer.GracefulStop(); err != nil {
		return inStep("stop", err)
	}
	success("end", nil)
	return nil
}

// failing returns a listener that fails message fail the first times times and takes everything else.
// With suspend_ms it does not fail it, but has its lite topic wait.
func failing(args *arguments) listener {
	fail := args.text("fail", "none")
	result := client.FAILURE
	if ms := args.number("suspend_ms", 0); ms > 0 {
		result = client.NewConsumerResultSuspend(time.Duration(ms) * time.Millisecond)
	}
	var left atomic.Int64
	left.Store(int64(args.number("times", 1)))
	return func(message *client.MessageView) client.ConsumerResult {
		success("attempt", fields{"message": messageFields(message)})
		if message.GetProperties()["number"] == fail && left.Add(-1) >= 0 {
			return result
		}
		return client.SUCCESS
	}
}
