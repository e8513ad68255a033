package envelope

// Encrypt and Decrypt are the HPKE of a key, as Tink built it.
func Encrypt(k *PublicKey, plaintext, info []byte) ([]byte, error) {
	return k.encrypt.Encrypt(plaintext, info)
}

func Decrypt(k *PrivateKey, ciphertext, info []byte) ([]byte, error) {
	return k.decrypt.Decrypt(ciphertext, info)
}
