package main

import (
	"context"
	"errors"
	"sync"
	"time"

	client "github.com/apache/rocketmq-clients/golang/v5"
)

const pause = 20 * time.Millisecond

// idSet holds message ids; the listener of a push consumer runs in many goroutines.
type idSet struct {
	lock sync.Mutex
	ids  map[string]bool
}

func (s *idSet) add(id string) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.ids[id] = true
}

func (s *idSet) count() int {
	s.lock.Lock()
	defer s.lock.Unlock()
	return len(s.ids)
}

func (s *idSet) holds(wanted map[string]bool) bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	for id := range wanted {
		if !s.ids[id] {
			return false
		}
	}
	return true
}

// survive sends and consumes until standard input says stop, whatever becomes of the server meanwhile.
// It consumes with a push consumer, or with consume=simple with a simple one.
func survive(args *arguments) error {
	taken := &idSet{ids: make(map[string]bool)}
	producer, err := startProducer(args)
	if err != nil {
		return inStep("start", err)
	}
	consumer, err := startTaking(args, func(message *client.MessageView) client.ConsumerResult {
		success("acked", fields{"id": message.GetMessageId()})
		taken.add(message.GetMessageId())
		return client.SUCCESS
	})
	if err != nil {
		return inStep("consumer", err)
	}
	success("ready", nil)
	sent := sendUntilStopped(args, producer)
	deadline := time.Now().Add(args.seconds("drain_s", 60))
	for !taken.holds(sent) && time.Now().Before(deadline) {
		time.Sleep(pause)
	}
	success("end", fields{"sent": len(sent), "acked": taken.count()})
	return inStep("stop", errors.Join(consumer.GracefulStop(), producer.GracefulStop()))
}

// stoppable is what both kinds of consumers have in common.
type stoppable interface{ GracefulStop() error }

func startTaking(args *arguments, take listener) (stoppable, error) {
	if args.text("consume", "push") == "push" {
		return startPushConsumer(args, take)
	}
	consumer, err := startSimpleConsumer(args, 6*time.Second)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			if err := takeOnce(consumer, take); err != nil {
				success("retry", fields{"error": err.Error()})
				time.Sleep(pause)
			}
		}
	}()
	return consumer, nil
}

func takeOnce(consumer client.SimpleConsumer, take listener) error {
	messages, err := receive(consumer, batch, 15*time.Second)
	if err != nil {
		return err
	}
	for _, message := range messages {
		// Whether an ack that failed was heard is unknown: what was received counts.
		take(message)
		if err := consumer.Ack(context.Background(), message); err != nil {
			return err
		}
	}
	return nil
}

func sendUntilStopped(args *arguments, producer client.Producer) map[string]bool {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		awaitStop()
	}()
	sent := make(map[string]bool)
	for number := 0; ; number++ {
		id, err := sendOne(producer, numbered(args.topic(), args.prefix(), number))
		if err != nil {
			success("retry", fields{"error": err.Error()})
		} else {
			sent[id] = true
			success("sent", fields{"id": id})
		}
		select {
		case <-stopped:
			return sent
		case <-time.After(pause):
		}
	}
}
