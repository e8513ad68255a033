package proxy

// ReadAnswer reads a counterparty's answer to a verification, as an attempt to
// deliver it does.
func (e *Enclave) ReadAnswer(payload []byte) error {
	_, err := e.readAnswer(payload)
	return err
}

// Remembered says for how many counterparties messages are numbered.
func (e *Enclave) Remembered() int {
	e.sequence.mu.Lock()
	defer e.sequence.mu.Unlock()
	return len(e.sequence.last)
}
