package main

import (
	"fmt"
	"time"

	client "github.com/apache/rocketmq-clients/golang/v5"
)

// numbered is message number of a run, the same in every language: text beyond ASCII everywhere,
// and every byte value in the odd bodies.
func numbered(topic, prefix string, number int) *client.Message {
	message := &client.Message{Topic: topic, Body: body(prefix, number)}
	message.SetTag(fmt.Sprintf("tag-%d", number))
	message.SetKeys(fmt.Sprintf("%s-key-%d", prefix, number), fmt.Sprintf("%s-schlüssel-%d", prefix, number))
	message.AddProperty("number", fmt.Sprint(number))
	message.AddProperty("sender", prefix+" Grüße 世界")
	return message
}

func body(prefix string, number int) []byte {
	bytes := []byte(fmt.Sprintf("%s-%d: Grüße, 世界, 🚀", prefix, number))
	for value := 0; number%2 == 1 && value < 256; value++ {
		bytes = append(bytes, byte(value))
	}
	return bytes
}

func dueMs(due *time.Time) *int64 {
	if due == nil {
		return nil
	}
	ms := due.UnixMilli()
	return &ms
}

// messageFields are the fields of a received message that a sender can set or a server must add;
// this client does not show the priority.
func messageFields(message *client.MessageView) fields {
	return fields{
		"id":         message.GetMessageId(),
		"body":       message.GetBody(),
		"tag":        message.GetTag(),
		"keys":       message.GetKeys(),
		"properties": message.GetProperties(),
		"born_host":  message.GetBornHost(),
		"attempt":    message.GetDeliveryAttempt(),
		"group":      message.GetMessageGroup(),
		"lite_topic": message.GetLiteTopic(),
		"due_ms":     dueMs(message.GetDeliveryTimestamp()),
	}
}
