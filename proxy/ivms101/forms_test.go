package ivms101

import (
	"strings"
	"testing"
)

// ISO 3166-1 has 249 countries. The library behind knows more.
func TestCountries(t *testing.T) {
	n := 0
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			if isCountry(string(a) + string(b)) {
				n++
			}
		}
	}
	if n != 249 {
		t.Errorf("%d countries, want the 249 of ISO 3166-1", n)
	}
	for _, code := range strings.Fields("KR SG GB US CN TW HK PS SS AX BQ CW SX TL RS ME MM CD kr Sg") {
		if !isCountry(code) {
			t.Errorf("%s is no country", code)
		}
	}
	for _, code := range strings.Fields("UK EU UN XK EZ AN CS YU SU TP ZR BU DD AC CP IC TA QO ZZ XX XA AA 12 K KOR 001 ſg ı") {
		if isCountry(code) {
			t.Errorf("%s is a country", code)
		}
	}
	if isCountry("") {
		t.Error("nothing is a country")
	}
}

// ISO 17442: LEIs of large companies, and what a typist makes of them.
func TestLEI(t *testing.T) {
	for _, lei := range strings.Fields("5493001KJTIIGC8Y1R12 HWUPKR0MPOU8FGXBT394 8I5DZWZKVSZI1NUHU748 7LTWFZYICNSX8D621K86 hwupkr0mpou8fgxbt394") {
		if !isLEI(lei) {
			t.Errorf("%s is no LEI", lei)
		}
		for i := range lei {
			others := "0123456789"
			if lei[i] > '9' {
				others = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			}
			for _, c := range others {
				if typo := lei[:i] + string(c) + lei[i+1:]; !strings.EqualFold(typo, lei) && isLEI(typo) {
					t.Errorf("%s with another sign at %d is one still", lei, i)
				}
			}
		}
	}
	for _, none := range []string{"", "5493001KJTIIGC8Y1R1", "5493001KJTIIGC8Y1R120", "5493001KJTIIGC8Y1R 2", "5493001KJTIIGC8Y1Rl2", "00000000000000000000", "é493001KJTIIGC8Y1R1", strings.Repeat("A", 20)} {
		if isLEI(none) {
			t.Errorf("%q is an LEI", none)
		}
	}
}

func TestLastName(t *testing.T) {
	for pointer, want := range map[string]string{"": "", "/": "", "/a": "a", "/a/0": "a", "/a/0/1": "a", "/0": "", "/a/0/b": "b"} {
		if got := lastName(pointer); got != want {
			t.Errorf("lastName(%q) = %q, want %q", pointer, got, want)
		}
	}
}
