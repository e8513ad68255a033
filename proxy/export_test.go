package proxy

// ReadAnswer reads a counterparty's answer to a verification, as an attempt to
// deliver it does.
func (e *Enclave) ReadAnswer(payload []byte) error {
	_, err := e.readAnswer(payload)
	return err
}
