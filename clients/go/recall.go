package main

import (
	"context"
	"errors"
	"time"

	client "github.com/apache/rocketmq-clients/golang/v5"
)

// recall takes back delayed messages: one in time, the same once more, and one when it has been delivered.
func recall(args *arguments) error {
	producer, err := startProducer(args)
	if err != nil {
		return inStep("start", err)
	}
	handle, err := sendDelayed(args, producer, 0, 20*time.Second)
	if err != nil {
		return inStep("sent", err)
	}
	for _, step := range []string{"recalled", "again"} {
		id, err := producer.Recall(context.Background(), args.topic(), handle)
		if err != nil {
			return inStep(step, err)
		}
		success(step, fields{"id": id})
	}
	if handle, err = sendDelayed(args, producer, 1, 2*time.Second); err != nil {
		return inStep("sent", err)
	}
	// The runner says so when somebody has received it.
	awaitStop()
	if err := recallTooLate(args, producer, handle); err != nil {
		return err
	}
	if err := producer.GracefulStop(); err != nil {
		return inStep("stop", err)
	}
	success("end", nil)
	return nil
}

// sendDelayed returns the recall handle of a message that is due after a delay.
func sendDelayed(args *arguments, producer client.Producer, number int, delay time.Duration) (string, error) {
	message := numbered(args.topic(), args.prefix(), number)
	due := time.Now().Add(delay)
	message.SetDelayTimestamp(due)
	receipts, err := producer.Send(context.Background(), message)
	if err != nil {
		return "", err
	}
	success("sent", fields{"number": number, "id": receipts[0].MessageID, "due_ms": due.UnixMilli()})
	return receipts[0].RecallHandle, nil
}

func recallTooLate(args *arguments, producer client.Producer, handle string) error {
	_, err := producer.Recall(context.Background(), args.topic(), handle)
	if err == nil {
		return inStep("late", errors.New("the message was recalled"))
	}
	success("late", fields{"text": err.Error()})
	return nil
}
