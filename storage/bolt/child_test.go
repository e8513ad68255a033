package bolt_test

const childVariable = "BOLT_TEST_CHILD"

func runChild(string) int { return 1 }
