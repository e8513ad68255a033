package keysource

// ReadAnswer reads an answer of the decrypt API.
func ReadAnswer(text []byte) (outputKey, sealedKey string, err error) {
	a, err := read(text)
	if err != nil {
		return "", "", err
	}
	return a.OutputKey, a.SealedKey, nil
}

// SealingInfo begins the info of a sealed answer.
const SealingInfo = sealingInfo
