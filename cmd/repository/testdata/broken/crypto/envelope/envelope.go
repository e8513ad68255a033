// Package envelope reaches a disk, which it must not.
package envelope

import _ "broken.example/storage/bolt"
