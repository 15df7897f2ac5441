package agent

import (
	"bytes"

	"harmonyd/agent/loop"
	"harmonyd/schema"
)

// askAgain is what the model is told where its answer was bad. It does not see that
// answer, which would lead it into the same again, and nobody keeps either.
var askAgain = map[schema.Retry]string{
	schema.RetryEmpty: "Your last reply was empty and has been dropped. Please reply again, completely.",
	schema.RetryReasoningOnly: "Your last reply ended before its answer and has been dropped. " +
		"Please think only briefly this time and give the whole answer. Do not speak of the dropped reply.",
	schema.RetryLoop: "Your last reply went on repeating itself and has been dropped. " +
		"Please reply again from the beginning, completely and without repetitions. Do not speak of the dropped reply.",
}

// again reports whether the answer is to be asked for again, because it is bad and that
// has not been done too often. It becomes no part of the turn.
func (t *turn) again(reason schema.StopReason) bool {
	if t.tuned == nil || t.params.Messages == nil || t.begun.IsZero() { // none was begun
		return false
	}
	bad := t.bad(reason)
	if bad == "" {
		t.attempt, t.retry = 0, ""
		return false
	}
	if t.attempt >= t.tuned.settings.Repair.Attempts || t.params.MaxTokens > 0 && t.generated >= t.params.MaxTokens {
		return false
	}
	t.attempt++
	t.retried++
	t.retry = bad
	t.agent.log.Warn("a bad answer is asked for again", "id", t.params.GenerationID, "bad", bad, "attempt", t.attempt)
	return true
}

// bad says what is wrong with an answer that came to its end.
func (t *turn) bad(reason schema.StopReason) schema.Retry {
	switch {
	case len(t.called)+len(t.problems) > 0 || t.stopped >= 0:
		return ""
	case reason == schema.StopLoop:
		return schema.RetryLoop
	case len(bytes.TrimSpace(t.text)) > 0:
		return ""
	case len(bytes.TrimSpace(t.thoughts)) > 0:
		return schema.RetryReasoningOnly
	}
	return schema.RetryEmpty
}

// firmer is sampling that does not so soon do the same again. It is for one attempt.
func firmer(s schema.Sampling, bad schema.Retry) schema.Sampling {
	penalty, size := 1.2, 1024
	if bad == schema.RetryLoop {
		penalty, size = 1.25, 2048
	}
	penalty = max(penalty, value(s.RepetitionPenalty, 1))
	if n := value(s.RepetitionContextSize, 1); n == 0 || n > size { // 0 is all
		size = n
	}
	s.RepetitionPenalty, s.RepetitionContextSize = &penalty, &size
	return s
}

// newDetector returns a detector of loops in the next answer.
func (t *turn) newDetector() *loop.Detector {
	switch {
	case t.tuned == nil:
		return nil
	case t.attempt > 0 && t.tuned.settings.LoopDetection != string(loop.Off):
		return loop.New(loop.Full)
	}
	return loop.New(loop.Mode(t.tuned.settings.LoopDetection))
}
