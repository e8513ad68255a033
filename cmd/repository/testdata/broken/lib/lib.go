// Package lib is the way round.
package lib

import _ "broken.example/storage/bolt"
