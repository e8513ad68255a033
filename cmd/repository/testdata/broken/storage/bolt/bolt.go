// Package bolt may import its engine.
package bolt

import _ "encoding/json"
