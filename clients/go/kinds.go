package main

import (
	"context"
	"fmt"
	"time"

	client "github.com/apache/rocketmq-clients/golang/v5"
)

// sendInTurn sends a message as the kind whose turn it is; it returns the fields of the step.
func sendInTurn(args *arguments, producer client.Producer, number int) (fields, error) {
	message := numbered(args.topic(), args.prefix(), number)
	sent := fields{"number": number}
	switch kind := args.turn("kinds", number, "normal"); kind {
	case "normal":
	case "fifo":
		message.SetMessageGroup(args.turn("groups", number, ""))
	case "delay":
		delay, err := args.numberInTurn("delays_s", number)
		if err != nil {
			return nil, err
		}
		due := time.Now().Add(time.Duration(delay) * time.Second)
		message.SetDelayTimestamp(due)
		sent["due_ms"] = due.UnixMilli()
	case "priority":
		priority, err := args.numberInTurn("priorities", number)
		if err != nil {
			return nil, err
		}
		if err := message.SetPriority(int32(priority)); err != nil {
			return nil, err
		}
	case "lite":
		message.SetLiteTopic(args.turn("lites", number, ""))
	case "transaction":
		id, transaction, err := sendHalf(producer, message)
		if err != nil {
			return nil, err
		}
		sent["id"] = id
		return sent, transaction.Commit()
	default:
		return nil, fmt.Errorf("there is no kind named %s", kind)
	}
	id, err := sendOne(producer, message)
	sent["id"] = id
	return sent, err
}

// sendHalf sends a message in a transaction of its own, and returns its id.
func sendHalf(producer client.Producer, message *client.Message) (string, client.Transaction, error) {
	transaction := producer.BeginTransaction()
	receipts, err := producer.SendWithTransaction(context.Background(), message, transaction)
	if err != nil {
		return "", nil, err
	}
	return receipts[0].MessageID, transaction, nil
}
