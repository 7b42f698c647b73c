// The Arduino example as a program of this computer.
#include "Arduino.h"
#include "examples/arduino/Story/Story.ino"

int main() { setup(); }
