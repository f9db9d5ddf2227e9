package main

import (
	"fmt"
	"strconv"
	"sync"

	client "github.com/apache/rocketmq-clients/golang/v5"
)

// answers are what the server is told, question by question, about a transaction that was left to it.
var answers = map[string][]client.TransactionResolution{
	"open-commit":   {client.COMMIT},
	"open-rollback": {client.ROLLBACK},
	"open-unknown":  {client.UNKNOWN, client.COMMIT},
}

// transact runs transactions with the ends in ends, in turn. Those named open-… are left to the server,
// which asks until standard input says stop; open-unknown is settled by the second question only.
func transact(args *arguments) error {
	ends := args.words("ends", "commit,rollback,open-commit,open-rollback,open-unknown")
	producer, err := startChecked(args, checker(ends))
	if err != nil {
		return inStep("start", err)
	}
	for number, end := range ends {
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

// checker answers each question with the next word, and from then on with the last.
func checker(ends []string) verdict {
	var lock sync.Mutex
	asked := make(map[int]int)
	return func(message *client.MessageView) client.TransactionResolution {
		success("checked", fields{"message": messageFields(message)})
		number, err := strconv.Atoi(message.GetProperties()["number"])
		if err != nil || number >= len(ends) || len(answers[ends[number]]) == 0 {
			return client.UNKNOWN
		}
		lock.Lock()
		defer lock.Unlock()
		words := answers[ends[number]]
		word := words[min(asked[number], len(words)-1)]
		asked[number]++
		return word
	}
}

func endTransaction(transaction client.Transaction, end string) error {
	switch {
	case end == "commit":
		return transaction.Commit()
	case end == "rollback":
		return transaction.RollBack()
	case answers[end] != nil:
		return nil
	default:
		return fmt.Errorf("a transaction cannot end with %s", end)
	}
}
