package main

import (
	"fmt"

	client "github.com/apache/rocketmq-clients/golang/v5"
)

// transact runs transactions with the ends in ends, in turn: commit, rollback, open.
// An open one is left to the server, which asks until standard input says stop.
func transact(args *arguments) error {
	producer, err := startChecked(args, func(message *client.MessageView) {
		success("checked", fields{"message": messageFields(message)})
	})
	if err != nil {
		return inStep("start", err)
	}
	for number, end := range args.words("ends", "commit,rollback,open") {
		id, transaction, err := sendHalf(producer, numbered(args.topic(), args.prefix(), number))
		if err != nil {
			return inStep("sent", err)
		}
		success("sent", fields{"number": number, "id": id, "end": end})
		if err := endTransaction(transaction, end); err != nil {
			return inStep(end, err)
		}
	}
	awaitStop()
	if err := producer.GracefulStop(); err != nil {
		return inStep("stop", err)
	}
	success("end", nil)
	return nil
}

func endTransaction(transaction client.Transaction, end string) error {
	switch end {
	case "commit":
		return transaction.Commit()
	case "rollback":
		return transaction.RollBack()
	case "open":
		return nil
	default:
		return fmt.Errorf("a transaction cannot end with %s", end)
	}
}
