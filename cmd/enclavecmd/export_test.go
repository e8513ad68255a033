package enclavecmd

// NewLogger is what writes the log of a program.
var NewLogger = newLogger
